"""Images per second of a classifier's stream, against decoding, cropping and resizing the same images alone.

    python -m benchmarks.streaming ../shared/mirror/imagenet/full_size [--size 299] [--loaders 2] [--memory]

The folder holds photographs (JPEG). They are written to shards of 256 MiB in a temporary folder, over and over, and
streamed in the order of an epoch. The limit is a loop over the bytes of the same images in memory, with the same crops,
in one process; both run in turn and are counted in CPU time, the shards lying in the system's cache. The last column is
by the clock. With --memory: the largest resident memory of a loader process, for an archive and for one that is eight
times as large.
"""

import argparse
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.table import print_table
from matchnet.random_words import random_words, to_uniform
from pipeline.data.cropping import WORDS, CropSpec, crop
from pipeline.data.images import open_image
from pipeline.data.index import INDEX, write_index
from pipeline.data.manifest import ClassEntry, Manifest, ShardEntry, write_manifest
from pipeline.data.streaming import CROP_STREAM, ShardStream
from pipeline.data.tar import TarWriter
from pipeline.files import sha256_of

BATCH, SHARD_BYTES = 32, 256 * 2**20


def write_shards(folder: Path, contents: list[bytes], num_images: int) -> None:
    """`num_images` images, shards, index and manifest of one group of one class."""
    columns: dict[str, list] = {name: [] for name in ("key", "shard", "offset", "length")}
    images = enumerate(islice(cycle(contents), num_images))
    entries = []
    while len(columns["key"]) < num_images:
        entries.append(_write_shard(folder / f"all_train-{len(entries):06d}.tar", images, columns))
    same = {"class_id": [0] * num_images, "class_name": ["photo"] * num_images, "group": ["all_train"] * num_images}
    write_index(folder / INDEX, columns | same)
    write_manifest(folder, Manifest(
        name="photographs", num_samples=num_images, classes=(ClassEntry("photo", "all_train", num_images),),
        splits={"all": {"train": ["photo"], "valid": [], "test": []}}, shards=tuple(entries),
        index_sha256=sha256_of(folder / INDEX), parameters={"invert": False, "margin": None}, sources={}))


def _write_shard(path: Path, images: Iterator[tuple[int, bytes]], columns: dict[str, list]) -> ShardEntry:
    first = len(columns["key"])
    with open(path, "wb") as file:
        tar = TarWriter(file)
        for number, content in images:
            columns["key"].append(f"photo/{number}")
            columns["shard"].append(path.name)
            columns["offset"].append(tar.add(f"photo/{number}.jpg", content))
            columns["length"].append(len(content))
            if tar.size > SHARD_BYTES:
                break
        tar.finish()
    return ShardEntry(path.name, "all_train", tar.size, len(columns["key"]) - first, tar.digest.hexdigest())


def stream_of(folder: Path, size: int, num_loaders: int) -> ShardStream:
    return ShardStream(folder, "all", ("train",), (3, size, size), ["photo"], CropSpec(), 0, num_loaders)


def shares(num_images: int, first: int = 0) -> Iterator[range]:
    return (range(start, start + BATCH) for start in range(first, first + num_images - BATCH + 1, BATCH))


def decode_alone(contents: list[bytes], numbers: range, size: int) -> None:
    """What the stream does, less the reading: images from bytes in memory, into one array."""
    pixels_BHWC = np.empty((len(numbers), size, size, 3), np.uint8)
    uniform_BW = to_uniform(random_words(0, CROP_STREAM, numbers, WORDS))
    for b, content in enumerate(contents):
        pixels_BHWC[b] = crop(open_image(content, "jpg"), 3, size, CropSpec(), uniform_BW[b])


def speeds(folder: Path, contents: list[bytes], num_images: int, size: int) -> dict[str, float]:
    """Images per second of CPU time, in turn, batch by batch, on the same numbers; the median batch of an epoch."""
    stream = stream_of(folder, size, 0)
    speeds: dict[str, list[float]] = {"limit": [], "stream": []}
    for numbers in shares(num_images):
        of_numbers = [contents[row % len(contents)] for row in stream.positions(numbers)]
        speeds["limit"].append(BATCH / seconds(decode_alone, of_numbers, numbers, size))
        speeds["stream"].append(BATCH / seconds(stream.read, numbers))
    return {name: median(of_batches) for name, of_batches in speeds.items()}


def seconds(call: Callable[..., object], *arguments: object) -> float:
    """Of CPU time, so that what else the machine does is not counted."""
    started = time.process_time()
    call(*arguments)
    return time.process_time() - started


def loaders_speed(stream: ShardStream, num_images: int) -> float:
    """After each loader process has made its first batches."""
    batches = stream.read_each(shares(num_images))
    warm_up = 4 * stream.num_loaders
    for _ in islice(batches, warm_up):
        pass
    started, rest = time.perf_counter(), sum(1 for _ in batches)
    return rest * BATCH / (time.perf_counter() - started)


def loader_memory(folder: Path, size: int) -> float:
    """MiB of the loader process when an epoch is over, its largest so far."""
    stream = stream_of(folder, size, num_loaders=1)
    batches = stream.read_each(shares(len(stream)))
    for _ in islice(batches, len(stream) // BATCH - 1):
        pass
    child, = multiprocessing.active_children()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{child.pid}/status").read_text())
    batches.close()
    assert found
    return int(found[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of JPEGs")
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--images", type=int, default=1024, help="in the shards")
    parser.add_argument("--loaders", type=int, default=2)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    contents = [path.read_bytes() for path in sorted(arguments.photographs.iterdir())
                if path.suffix.lower() in (".jpeg", ".jpg")]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            rows = []
            for num_images in (arguments.images, 8 * arguments.images):
                shards = Path(folder, str(num_images))
                shards.mkdir()
                write_shards(shards, contents, num_images)
                rows.append([num_images, loader_memory(shards, arguments.size)])
            print_table(["images in the archive", "loader process, MiB"], rows)
            return
        write_shards(Path(folder), contents, arguments.images)
        found = speeds(Path(folder), contents, arguments.images, arguments.size)
        together = loaders_speed(stream_of(Path(folder), arguments.size, arguments.loaders), arguments.images)
        print_table(["pixels", "stream, images/s/core", "decode + crop + resize alone (limit)", "share of limit",
                     f"{arguments.loaders} loader processes"],
                    [[arguments.size, found["stream"], found["limit"], found["stream"] / found["limit"], together]])


if __name__ == "__main__":
    main()
