"""Memory of processes that make and read shards, for archives of more and more images: does it grow?

    python -m benchmarks.memory [--images 5000 20000 80000 320000] [--results benchmarks/results]

Images are tiny (8 x 8), so that there can be many; a shard has some 2,700 of them, as 256 MiB have of real ones. Each
archive is listed, sharded with two processes, streamed as for a classifier with two loaders, and read in episodes with
two more. Each figure is the largest resident set of a fresh process (Linux alone). What grows is one row an image, in
the processes that plan: the last column says what that makes for ILSVRC2012. memory.csv and memory.svg hold it all.
"""

import argparse
import csv
import io
import multiprocessing
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.archive import make_raw
from benchmarks.table import print_table
from pipeline.data.load.crop import CropSpec
from pipeline.data.load.stream import StreamSpec
from pipeline.data.raw.datasets import imagenet
from pipeline.data.raw.linked_archives import archive_path
from pipeline.data.raw.registry import TRAINING
from pipeline.data.shards import make as shards
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.source_spec import ImagenetParams
from pipeline.data.spec import DatasetParams, WholeSplit

IMAGES = (5_000, 20_000, 80_000, 320_000)
A_SYNSET = 1_000
SHARD_MIB = 4  # some 2,700 images
PROCESSES = 2
SIZE = 75  # pixels that are read for training
BATCH, BATCHES = 100, 50  # images a batch, batches of each way to read
SPLIT = "all"
PARAMS = DatasetParams(source="imagenet", splits={SPLIT: WholeSplit(part="train")}, shard_size_mib=SHARD_MIB,
                       imagenet=ImagenetParams(sample=True))

Measured = Callable[[Path, Path], None]  # takes the raw folder and the folder of shards


def list_archive(raw: Path, out: Path) -> None:
    archive = archive_path(raw, TRAINING.name)
    imagenet.write_listing(raw / imagenet.LISTING, archive, imagenet.scan_synsets(archive))


def shard(raw: Path, out: Path) -> None:
    shards.shard_dataset("tiny", PARAMS, raw, out, num_processes=PROCESSES)


def stream(raw: Path, out: Path) -> None:
    from pipeline.data.load.stream import ShardStream

    names = [entry.name for entry in ShardFolder(out).manifest.classes]
    spec = StreamSpec(SPLIT, ("train",), (3, SIZE, SIZE), names, CropSpec(), 0)
    images = ShardStream(ShardFolder(out), spec, PROCESSES)
    shares = (range(first, first + BATCH) for first in range(0, BATCH * (BATCHES + PROCESSES * 4), BATCH))
    for _ in islice(images.read_each(shares), BATCHES):
        pass


def read_episodes(raw: Path, out: Path) -> None:
    import torch

    from pipeline.data.load.from_shards import ShardStore

    with ShardStore(ShardFolder(out), SPLIT, (3, SIZE, SIZE), ("train",), PROCESSES) as store:
        random = torch.Generator().manual_seed(0)
        for _ in range(BATCHES):
            store.gather(torch.randint(len(store), (BATCH,), generator=random))


# benchmark -> the names of the lines of its own process and of its worker processes
RUNS: dict[Measured, tuple[str, str | None]] = {
    list_archive: ("listing the archive", None),
    shard: ("planning the shards", "worker that shards"),
    stream: ("training from a stream", "loader of the stream"),
    read_episodes: ("training on episodes", "loader of episodes")}
LINES = [line for pair in RUNS.values() for line in pair if line]


def measure(num_images: int) -> dict[str, float]:
    """MiB of each line."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        raw = make_raw(Path(folder), "tiny", tiny_images(num_images), PARAMS)
        for run, (own, of_processes) in RUNS.items():
            found[own], largest = _in_a_process(run, raw, Path(folder) / "shards")
            if of_processes:
                found[of_processes] = largest
    return found


def at_full_size(counts: Sequence[int], mib: Sequence[float]) -> float:
    """MiB at ILSVRC2012's number of images, by the growth between the last two counts."""
    growth = (mib[-1] - mib[-2]) / (counts[-1] - counts[-2])
    return mib[-1] + max(growth, 0.0) * (imagenet.NUM_IMAGES[TRAINING.name] - counts[-1])


def tiny_images(num_images: int) -> Iterator[list[bytes]]:
    """The images of each synset, 8 x 8 pixels of one grey."""
    grey = [_jpeg(np.full((8, 8), value, np.uint8)) for value in range(256)]
    for start in range(0, num_images, A_SYNSET):
        yield [grey[number % 256] for number in range(start, min(start + A_SYNSET, num_images))]


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def _in_a_process(run: Measured, raw: Path, out: Path) -> tuple[float, float]:
    """Largest MiB of a fresh process that calls `run(raw, out)`, and of its own largest process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_memory, args=(run, raw, out, sender))
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    return found


def _report_memory(run: Measured, raw: Path, out: Path, sender: Connection) -> None:
    done = threading.Event()
    with ThreadPoolExecutor(1) as watcher:
        largest = watcher.submit(_largest_child, done)
        try:
            run(raw, out)
        finally:
            done.set()
        sender.send((_peak_mib("self"), largest.result()))


def _largest_child(done: threading.Event) -> float:
    """Largest MiB of this process's processes until `done`."""
    peak = 0.0
    while not done.wait(0.05):
        for child in multiprocessing.active_children():
            peak = max(peak, _peak_mib(child.pid))
    return peak


def _peak_mib(pid: object) -> float:
    """The largest resident set so far, of /proc: getrusage's is at least the parent's at the time of the fork."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def write(folder: Path, counts: Sequence[int], found: Sequence[dict[str, float]]) -> None:
    """memory.csv and memory.svg."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "memory.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["images", *(f"{line} (MiB)" for line in LINES)])
        writer.writerows([[count, *(f"{of_count[line]:.1f}" for line in LINES)]
                          for count, of_count in zip(counts, found, strict=True)])
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for line in LINES:
        axes.plot(counts, [of_count[line] for of_count in found], marker="o", label=line)
    axes.set(xlabel="images in the archive", ylabel="MiB", title="largest resident set of a process", ylim=(0, None))
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(folder / "memory.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES, help="in each archive, ascending; two or more")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="of memory.csv, memory.svg")
    arguments = parser.parse_args()
    counts = arguments.images
    if len(counts) < 2 or any(later <= earlier for earlier, later in pairwise(counts)):
        parser.error("--images: name two or more numbers, each larger than the one before")
    found = [measure(count) for count in counts]
    print_table(["largest MiB, images in the archive:", *(f"{count:,}" for count in counts),
                 f"{imagenet.NUM_IMAGES[TRAINING.name]:,} by that growth"],
                [[line, *(of_count[line] for of_count in found),
                  at_full_size(counts, [of_count[line] for of_count in found])] for line in LINES])
    write(arguments.results, counts, found)


if __name__ == "__main__":
    main()
