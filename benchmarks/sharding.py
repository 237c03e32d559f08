"""Photographs sharded per second and core, against decoding, scaling and encoding them alone; what ImageNet will take.

    python -m benchmarks.sharding ../shared/mirror/imagenet/full_size
    python -m benchmarks.sharding --memory

The first needs a folder of photographs of real size, which are repeated; `write_shard` and the codec run in a process,
by turns, on a file in the system's cache, and are measured in seconds of the processor, which other work on the machine
stretches less. The second makes archives of more and more tiny images, shards them with two processes, and prints the
largest memory (resident set) of a worker and of the parent (Linux alone).
"""

import argparse
import io
import multiprocessing
import os
import re
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import simplejpeg
from PIL import Image

from benchmarks.table import print_table
from pipeline.data import shards
from pipeline.data.datasets import imagenet
from pipeline.data.large_archives import archive_path
from pipeline.data.plan import ShardPlan
from pipeline.data.sources import TRAINING
from pipeline.data.spec import DatasetParams, ImagenetParams, WholeSplit

IMAGES, ROUNDS = 64, 31
REAL_IMAGES = sum(imagenet.NUM_IMAGES.values())
REAL_BYTES = 147_897_477_120 + 6_744_924_160
SIDES = (None, 256, 320)
CORES = (1, 8, 32)
TINY = (5_000, 20_000, 80_000)  # images of an archive of the memory's growth
TINY_A_SYNSET = 1_000
TINY_SHARD_MIB = 4  # some 2,700 images, as 256 MiB hold of real ones


def measure_speed(photographs: Path) -> None:
    """Print both tables of speed."""
    contents = [path.read_bytes() for path in sorted(photographs.iterdir())]
    if not contents:
        raise SystemExit(f"{photographs}: no photographs in it")
    repeated = [contents[number % len(contents)] for number in range(IMAGES)]
    print(f"{len(contents)} photographs, repeated to {IMAGES}; a machine of {os.cpu_count()} cores\n")
    rows, estimates = [], []
    with tempfile.TemporaryDirectory() as folder:
        raw = _make_raw(Path(folder), "photographs", [repeated])
        for side in SIDES:
            shipped, alone, size = _compare(raw, Path(folder), side, repeated)
            rows.append([side or "as they are", shipped, alone, shipped / alone, size / IMAGES / 1000])
            gib = (REAL_BYTES if side is None else size / IMAGES * REAL_IMAGES) / 2**30
            estimates.append([side or "as they are", gib, *(REAL_IMAGES / shipped / cores / 3600 for cores in CORES)])
    print_table(["shorter side", "sharded, img/s/core", "codec alone (limit)", "share of limit", "KB an image"], rows)
    print(f"\nILSVRC2012, {REAL_IMAGES:,} images, at that speed:")
    print_table(["shorter side", "GiB of shards", *(f"hours on {cores} cores" for cores in CORES)], estimates)


def _compare(raw: Path, folder: Path, side: int | None, contents: Sequence[bytes]) -> tuple[float, float, int]:
    """Images/s of sharding and of the codec alone, the median of some rounds by turns; bytes of the shard."""
    params = _params(side)
    read = imagenet.open_raw(raw, params)
    plan = ShardPlan("all-000000.tar", "all", tuple(imagenet.read_raw(raw, params)))
    job = shards._Job(plan, folder / plan.name, imagenet.EXTENSION, "benchmark")
    seconds = [(_seconds(lambda: shards.write_shard(read, job)),
                _seconds(lambda: [_codec(content, side) for content in contents])) for _ in range(ROUNDS)]
    shipped, alone = (IMAGES / median(of_one) for of_one in zip(*seconds, strict=True))
    return shipped, alone, job.path.stat().st_size


def _seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def _codec(content: bytes, side: int | None) -> bytes:
    pixels = simplejpeg.decode_jpeg(content)
    if side is None or min(pixels.shape[:2]) <= side:
        return content
    image = Image.fromarray(pixels)
    scale = side / min(image.size)
    width, height = (round(length * scale) for length in image.size)
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure_memory() -> None:
    """Print the largest memory of processes that shard archives of more and more images."""
    rows = []
    for num_images in TINY:
        with tempfile.TemporaryDirectory() as folder:
            raw = _make_raw(Path(folder), "tiny", _tiny_images(num_images))
            scan, shard = (_in_a_process(measured, raw, Path(folder) / "shards") for measured in (_list, _shard))
            rows.append([num_images, scan[0], shard[1], shard[0]])
    print_table(["images", "listing, MiB", "worker, MiB", "parent, MiB"], rows)
    grown = (rows[-1][3] - rows[0][3]) / (rows[-1][0] - rows[0][0])
    print(f"\nThe parent at {imagenet.NUM_IMAGES[TRAINING.name]:,} images: "
          f"{(rows[0][3] + grown * imagenet.NUM_IMAGES[TRAINING.name]) / 1024:,.1f} GiB")


def _in_a_process(measured: Callable[[Path, Path], None], raw: Path, out: Path) -> tuple[float, float]:
    """Largest MiB of a fresh process that runs `measured(raw, out)`, and of its own largest process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_memory, args=(measured, raw, out, sender))
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    return found


def _report_memory(measured: Callable[[Path, Path], None], raw: Path, out: Path, sender: object) -> None:
    done = threading.Event()
    with ThreadPoolExecutor(1) as watcher:
        largest = watcher.submit(_largest_child, done)
        measured(raw, out)
        done.set()
        sender.send((_peak_mib("self"), largest.result()))  # type: ignore[attr-defined]


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


def _list(raw: Path, out: Path) -> None:
    archive = archive_path(raw, TRAINING.name)
    imagenet.write_listing(raw / imagenet.LISTING, archive, imagenet.scan_synsets(archive))


def _shard(raw: Path, out: Path) -> None:
    shards.shard_dataset("tiny", _params(None, TINY_SHARD_MIB), raw, out, num_processes=2)


def _params(side: int | None, shard_size_mib: float = 256) -> DatasetParams:
    return DatasetParams(source="imagenet", splits={"all": WholeSplit()}, shard_size_mib=shard_size_mib,
                         imagenet=ImagenetParams(shorter_side=side, sample=True))


def _tiny_images(num_images: int) -> Iterator[list[bytes]]:
    """The images of each synset, 8 x 8 pixels of one grey."""
    grey = [_jpeg(np.full((8, 8), value, np.uint8)) for value in range(256)]
    for start in range(0, num_images, TINY_A_SYNSET):
        yield [grey[number % 256] for number in range(start, start + TINY_A_SYNSET)]


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def _make_raw(folder: Path, name: str, synsets: Iterable[list[bytes]]) -> Path:
    """A raw folder whose archive has these images, listed."""
    raw = folder / "raw" / name
    raw.mkdir(parents=True)
    archive = archive_path(raw, TRAINING.name)
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w") as outer:
        for number, contents in enumerate(synsets):
            _add(outer, f"n{number:08d}.tar", _synset_tar(f"n{number:08d}", contents))
    imagenet.prepare_raw(raw, _params(None))
    return raw


def _synset_tar(synset: str, contents: Sequence[bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as inner:
        for number, content in enumerate(contents):
            _add(inner, f"{synset}_{number}.JPEG", content)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, nargs="?", help="a folder of JPEGs of real size")
    parser.add_argument("--memory", action="store_true", help="measure the memory instead")
    arguments = parser.parse_args()
    if arguments.memory == (arguments.photographs is not None):
        parser.error("name a folder of photographs, or give --memory")
    measure_memory() if arguments.memory else measure_speed(arguments.photographs)


if __name__ == "__main__":
    main()
