"""Part 4 of benchmarks/gpu.sh: processes that decode photographs, against the images that the GPU consumes.

Photographs of real size are those of `--photographs`, or made here (400 x 500, smooth noise). They lie in shards, and
the shipped stream reads, decodes and crops them, alone and while the classifier of part 3 trains on them. Where
pipeline's packages are missing (simplejpeg and others), Pillow alone decodes in as many processes, which is slower and
not what is shipped; the part says so.
"""

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Generator, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.gpu_inception import Sizes, build, training
from benchmarks.gpu_part import LINES_FILE, Part, steps_per_second
from matchnet.classifier_training import ClassifierData, ClassifierTask, ImageStream
from matchnet.encoders.inception import InceptionSpec
from matchnet.methods import ClassifierSpec

WIDTH, HEIGHT, MADE = 500, 400, 32
SHARDED, NUM_CLASSES = 2000, 40


def made_photographs() -> list[bytes]:
    """JPEGs as large as ImageNet's, of smooth noise."""
    generator, contents = np.random.default_rng(0), []
    for _ in range(MADE):
        coarse = Image.fromarray(generator.integers(256, size=(HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    return contents


def photographs_of(folder: Path | None) -> list[bytes]:
    if folder is None:
        return made_photographs()
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpeg", ".jpg"))
    return [path.read_bytes() for path in paths]


class PillowDecoding(Dataset):
    """The photographs of a range of numbers, by Pillow: (B, 3, size, size) uint8 and classes."""

    def __init__(self, contents: list[bytes], size: int) -> None:
        self.contents, self.size = contents, size

    def __getitem__(self, numbers: range) -> tuple[Tensor, Tensor]:
        pixels_BHWC = np.empty((len(numbers), self.size, self.size, 3), np.uint8)
        for b, number in enumerate(numbers):
            with Image.open(io.BytesIO(self.contents[number % len(self.contents)])) as image:
                resized = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
                pixels_BHWC[b] = np.asarray(resized)
        class_B = torch.arange(numbers.start, numbers.stop) % NUM_CLASSES
        return torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2), class_B


class PillowStream:
    """An ImageStream of PillowDecoding."""

    def __init__(self, contents: list[bytes], size: int, loaders: int) -> None:
        self.decoding, self.loaders = PillowDecoding(contents, size), loaders

    def read(self, numbers: range) -> tuple[Tensor, Tensor]:
        return self.decoding[numbers]

    def read_each(self, shares: Iterable[range]) -> Generator[tuple[Tensor, Tensor]]:
        settings: dict[str, Any] = {"multiprocessing_context": "spawn"}
        yield from DataLoader(self.decoding, batch_size=None, sampler=list(shares), num_workers=self.loaders,
                              generator=torch.Generator(), **settings)


def shipped_stream(shards: Path, contents: list[bytes], size: int, loaders: int, images: int) -> ImageStream:
    """The stream of pipeline.data; ImportError where a package of it is missing."""
    from benchmarks.photographs import write_shards
    from pipeline.data.load.crop import CropSpec
    from pipeline.data.load.stream import ShardStream, StreamSpec
    from pipeline.data.shards.folder import ShardFolder

    if not any(shards.iterdir()):
        write_shards(shards, contents, images, NUM_CLASSES)
    names = [f"photo{c}" for c in range(NUM_CLASSES)]
    spec = StreamSpec("all", ("train",), (3, size, size), names, CropSpec(), 0)
    return ShardStream(ShardFolder(shards), spec, loaders)


def images_per_second(stream: ImageStream, batch: int, batches: int, loaders: int) -> float:
    """Speed of the stream alone, after each process has made its first batches."""
    warm_up = 2 * loaders
    shares = [range(first, first + batch) for first in range(0, batch * (warm_up + batches), batch)]
    made = stream.read_each(shares)
    for _ in islice(made, warm_up):
        pass
    started, count = time.perf_counter(), sum(len(class_B) for _, class_B in made)
    return count / (time.perf_counter() - started)


def eaten(part: Part) -> float:
    """Images a second that part 3 measured of the classifier on resident tensors; NaN where it has not run."""
    file = part.out / LINES_FILE if part.out else None
    lines = file.read_text().splitlines() if file and file.is_file() else []
    found = [line["images/s"] for line in map(json.loads, lines)
             if line.get("what") == "classifier, bf16, resident" and line["part"] == "inception"]
    return found[-1] if found else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="a folder of JPEGs of real size")
    part = Part("decoding", parser)
    torch.backends.cudnn.benchmark = part.cuda
    sizes, cores = Sizes(part.tiny), torch.get_num_threads() if part.tiny else len(os.sched_getaffinity(0))
    contents = photographs_of(part.arguments.photographs)
    kilobytes = sum(map(len, contents)) / len(contents) / 1000
    part.say(f"{len(contents)} photographs of {kilobytes:.0f} KB, {cores} cores")
    wanted = eaten(part)
    part.begin(f"images a second at {sizes.size} px", "images/s", "a process", "of eaten", "cores needed")
    with tempfile.TemporaryDirectory() as folder:
        shards, name, stream = Path(folder), "shipped stream", None
        try:
            stream = shipped_stream(shards, contents, sizes.size, 1, 64 if part.tiny else SHARDED)
        except ImportError as error:
            name = "Pillow, not the shipped stream"
            part.say(f"the shipped stream is left out: {' '.join(str(error).split())[:160]}")
        for loaders in dict.fromkeys((1, cores)):
            what = f"{name}, {loaders} processes"
            if not part.has(8, what):
                break
            with part.attempt(what):
                used = (PillowStream(contents, sizes.size, loaders) if stream is None else
                        shipped_stream(shards, contents, sizes.size, loaders, SHARDED))
                speed = images_per_second(used, *((4, 2) if part.tiny else (32, 12 * loaders)), loaders)
                part.row(what, speed, speed / loaders, speed / wanted, wanted * loaders / speed)
        what = f"classifier trained through {cores} processes"
        if part.has(12, what):
            with part.attempt(what):
                used = (PillowStream(contents, sizes.size, cores) if stream is None else
                        shipped_stream(shards, contents, sizes.size, cores, SHARDED))
                task = ClassifierTask(ClassifierData(used), training(sizes))
                method = build(ClassifierSpec(encoder=InceptionSpec(width=sizes.width)), sizes, part.device)
                speed = steps_per_second(method, task, part.device) * sizes.images
                part.row(what, speed, speed / cores, speed / wanted, "")
    part.end()


if __name__ == "__main__":
    main()
