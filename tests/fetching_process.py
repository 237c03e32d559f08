"""A process that brings `far://<name>` to a cache and stays until its input ends; used by test_shard_cache.py."""

import sys
from pathlib import Path

import pytest
from faulty_storage import Faults, use_far_storage

from pipeline.data.nodes.cache import CacheParams, local_shards
from pipeline.data.shards.folder import ShardFolder


def main(root: str, name: str, cache: str, gib: str, log: str, seconds: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        use_far_storage(Path(root), Faults(Path(log), seconds=float(seconds)), patch)
        with local_shards(f"far://{name}", CacheParams(folder=cache, gib=float(gib))) as folder:
            ShardFolder(folder).verify()
            print("ready", flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
