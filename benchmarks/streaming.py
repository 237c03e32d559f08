"""Images per second of a classifier's stream, against decoding, cropping and resizing the same images alone.

    python -m benchmarks.streaming ../shared/mirror/imagenet/full_size [--size 299] [--loaders 2]

The folder holds photographs (JPEG). They are written to shards of 256 MiB in a temporary folder, over and over, and
streamed in the order of an epoch. The limit is a loop over the bytes of the same images in memory, with the same crops,
in one process; both run in turn and are counted in CPU time, the shards lying in the system's cache. The last column is
by the clock.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.photographs import read_photographs, write_shards
from benchmarks.table import print_table
from matchnet.random_words import random_words, to_uniform
from pipeline.data.formats.images import open_image
from pipeline.data.load.crop import WORDS, CropSpec, crop
from pipeline.data.load.stream import CROP_STREAM, ShardStream, StreamSpec
from pipeline.data.shards.folder import ShardFolder

BATCH = 32


def stream_of(folder: Path, size: int, num_loaders: int) -> ShardStream:
    spec = StreamSpec("all", ("train",), (3, size, size), ["photo0"], CropSpec(), 0)
    return ShardStream(ShardFolder(folder), spec, num_loaders)


def shares(num_images: int, first: int = 0) -> Iterator[range]:
    return (range(start, start + BATCH) for start in range(first, first + num_images - BATCH + 1, BATCH))


def decode_alone(contents: list[bytes], numbers: range, size: int) -> None:
    """Do the stream's work without reading: images from bytes in memory, into one array."""
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
    """Seconds of CPU time, so that other work on the machine is not counted."""
    started = time.process_time()
    call(*arguments)
    return time.process_time() - started


def loaders_speed(stream: ShardStream, num_images: int) -> float:
    """Speed of the loaders, after each loader process has made its first batches."""
    batches = stream.read_each(shares(num_images))
    warm_up = 4 * stream.num_loaders
    for _ in islice(batches, warm_up):
        pass
    started, rest = time.perf_counter(), sum(1 for _ in batches)
    return rest * BATCH / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of JPEGs")
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--images", type=int, default=1024, help="in the shards")
    parser.add_argument("--loaders", type=int, default=2)
    arguments = parser.parse_args()
    contents = read_photographs(arguments.photographs)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), contents, arguments.images)
        found = speeds(Path(folder), contents, arguments.images, arguments.size)
        together = loaders_speed(stream_of(Path(folder), arguments.size, arguments.loaders), arguments.images)
        print_table(["pixels", "stream, images/s/core", "decode + crop + resize alone (limit)", "share of limit",
                     f"{arguments.loaders} loader processes"],
                    [[arguments.size, found["stream"], found["limit"], found["stream"] / found["limit"], together]])


if __name__ == "__main__":
    main()
