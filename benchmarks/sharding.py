"""Photographs sharded per second and core, against decoding, scaling and encoding them alone; what ImageNet will take.

    python -m benchmarks.sharding ../shared/mirror/imagenet/full_size

The folder holds photographs of real size, which are repeated. `write_shard` and the codec run in a process, by turns,
on a file in the system's cache. They are measured in CPU seconds, which other work on the machine stretches less.
Photographs stored as they are are still decoded, to check that they are whole, and keep their bytes.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import simplejpeg
from PIL import Image

from benchmarks.archive import make_raw
from benchmarks.photographs import read_photographs
from benchmarks.table import print_table
from pipeline.data.raw.datasets import imagenet
from pipeline.data.shards import make as shards
from pipeline.data.shards.plan import ShardPlan
from pipeline.data.source_spec import ImagenetParams
from pipeline.data.spec import DatasetParams, WholeSplit
from pipeline.system.machine import cores

IMAGES, ROUNDS = 64, 31
REAL_IMAGES = sum(imagenet.NUM_IMAGES.values())
REAL_BYTES = 147_897_477_120 + 6_744_924_160
SIDES = (None, 256, 320)
CORES = (1, 8, 32)


def measure(photographs: Path) -> None:
    """Print both tables of speed."""
    contents = read_photographs(photographs)
    repeated = [contents[number % len(contents)] for number in range(IMAGES)]
    print(f"{len(contents)} photographs, repeated to {IMAGES}; a machine of {cores()} cores\n")
    rows, estimates = [], []
    with tempfile.TemporaryDirectory() as folder:
        raw = make_raw(Path(folder), "photographs", [repeated], _params(None))
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
    task = shards.ShardTask(plan, folder / plan.name, folder / "note.json", imagenet.EXTENSION, "benchmark")
    seconds = [(_seconds(lambda: shards.write_shard(read, task)),
                _seconds(lambda: [_codec(content, side) for content in contents])) for _ in range(ROUNDS)]
    shipped, alone = (IMAGES / median(of_one) for of_one in zip(*seconds, strict=True))
    return shipped, alone, task.path.stat().st_size


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


def _params(side: int | None) -> DatasetParams:
    return DatasetParams(source="imagenet", splits={"all": WholeSplit()},
                         imagenet=ImagenetParams(shorter_side=side, sample=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of JPEGs of real size")
    measure(parser.parse_args().photographs)


if __name__ == "__main__":
    main()
