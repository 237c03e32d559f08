"""Random samples per second through the index of a dataset's shards, against `pread` of the same places alone.

    python -m benchmarks.random_reads data/shards/omniglot

The pages are in the system's cache after the warm-up: measured is the path from a row to its bytes, not the disk.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.table import calls_per_second, print_table
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import INDEX, read_index
from pipeline.data.shards.reader import ShardReader

READS = 20_000


def places_of(reader: ShardReader, rows: np.ndarray) -> list[tuple[int, int, int]]:
    """Arguments of `os.pread` for each row."""
    samples = reader.index.take(rows)
    fds = np.array([reader._open._fd_of[name] for name in samples.shards])[samples.shard_R]
    return list(zip(fds.tolist(), samples.length_R.tolist(), samples.offset_R.tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, help="a folder with shards and their index")
    shards = parser.parse_args().shards
    started = time.perf_counter()
    num_rows = len(read_index(shards / INDEX))
    seconds_to_read_index = time.perf_counter() - started
    with ShardReader(ShardFolder(shards)) as reader:
        rows = np.random.default_rng(0).integers(num_rows, size=READS)
        places = places_of(reader, rows)
        speed = READS * calls_per_second(lambda: reader.read_many(rows))
        limit = READS * calls_per_second(lambda: [os.pread(*place) for place in places])
    print_table(["rows", "index read, s", "samples/s", "pread alone/s (limit)", "share of limit"],
                [[num_rows, seconds_to_read_index, speed, limit, speed / limit]])


if __name__ == "__main__":
    main()
