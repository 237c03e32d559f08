"""A process with a loader process, whose id it prints when that has begun; for a test that kills it."""

import multiprocessing
import sys
import time
from pathlib import Path

from pipeline.data.load.crop import CropSpec
from pipeline.data.load.stream import ShardStream, StreamSpec
from pipeline.data.shards.folder import ShardFolder

if __name__ == "__main__":
    shards, *names = sys.argv[1:]
    spec = StreamSpec("random", ("train",), (1, 16, 16), names, CropSpec(), seed=0)
    stream = ShardStream(ShardFolder(Path(shards)), spec, num_loaders=1)
    batches = stream.read_each(range(n, n + 10) for n in range(0, 10_000_000, 10))
    next(batches)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    time.sleep(600)
