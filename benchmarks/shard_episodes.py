"""Episodes per second from a store on shards, against decoding the same photographs alone.

    python -m benchmarks.shard_episodes ../shared/mirror/imagenet/full_size [--size 299]

The folder holds photographs of real size (JPEG); shards of them are made in a temporary folder, repeated. Shipped is
the work of training and evaluation: episodes of 5 ways, 1 shot and 5 queries are drawn. A worker process reads each
image by its place in the index, decodes it and scales it, into memory that both processes share. The limit is a loop
over the bytes of the same images in memory, in one process. Both run in turn on the same episodes, with the allocator
as training's workers have it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.allocator import keep_freed_memory
from benchmarks.photographs import read_photographs, write_shards
from benchmarks.table import print_table
from matchnet.episodes import ClassRows, EpisodeSpec, sample_episodes
from matchnet.pictures.pixels import to_pixels
from matchnet.preparation import Preparation
from pipeline.data.formats.images import open_image
from pipeline.data.load.from_shards import ShardStore
from pipeline.data.shards.folder import ShardFolder

NUM_IMAGES, NUM_CLASSES = 800, 40
SPEC = EpisodeSpec(5, 1, 5)
EPISODES, ROUNDS = 4, 12  # episodes at once: a step's


def rows_of(first: int, classes: ClassRows) -> torch.Tensor:
    episodes = sample_episodes(0, range(first, first + EPISODES), SPEC, classes)
    return episodes.row_ET


def measure(contents: list[bytes], folder: Path, size: int) -> tuple[float, float]:
    """Episodes per second, shipped and at the limit; the median of rounds that take turns."""
    write_shards(folder, contents, NUM_IMAGES, NUM_CLASSES)
    seconds: dict[str, list[float]] = {"shipped": [], "limit": []}
    with ShardStore(ShardFolder(folder), "all", (3, size, size), ("train",), num_processes=1) as store:
        classes = ClassRows.from_class_ids(store.class_id_R)
        store.gather(rows_of(0, classes))  # the process starts
        photographs = photographs_of(folder)
        for first in range(0, ROUNDS * EPISODES, EPISODES):
            seconds["shipped"].append(taken(lambda first: store.gather(rows_of(first, classes)), first))
            images = [contents[number % len(contents)] for number in photographs[rows_of(first, classes).flatten()]]
            seconds["limit"].append(taken(decode_alone, images, size))
    return EPISODES / median(seconds["shipped"]), EPISODES / median(seconds["limit"])


def photographs_of(folder: Path) -> np.ndarray:
    """For each row of the store, the number that its photograph has in the shards."""
    shards = ShardFolder(folder)
    rows, _ = shards.select("all", ("train",))
    return np.array([int(key.rpartition("/")[2]) for key in shards.index.key_R.take(rows).to_pylist()])


def decode_alone(images: list[bytes], size: int) -> None:
    pixels_BCHW = np.empty((len(images), 3, size, size), np.uint8)
    preparation = Preparation(channels=3, size=size)
    for b, content in enumerate(images):
        pixels_BCHW[b] = to_pixels(open_image(content, "jpg"), preparation)


def taken(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of JPEGs")
    parser.add_argument("--size", type=int, default=299)
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        shipped, limit = measure(read_photographs(arguments.photographs), Path(folder), arguments.size)
    print_table(["", "episodes/s", "images/s"], [["from shards, one worker process", shipped, shipped * 30],
                                                 ["decode and scale alone (limit)", limit, limit * 30],
                                                 ["share of the limit", shipped / limit, ""]])


if __name__ == "__main__":
    main()
