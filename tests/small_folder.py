"""A small folder of pictures, a class a folder: each class is a bar of an angle and a colour of its own."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.data.source_spec import FolderParams
from pipeline.data.spec import DatasetParams, RandomSplit


def drawn(number: int, hand: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Image.Image:
    """Picture `hand` of class `number`."""
    random = np.random.default_rng([number, hand])
    image = Image.new("RGB", size, tuple(random.integers(200, 256, 3).tolist()))
    angle, middle = number * 0.7 + random.normal() * 0.05, np.array(size) / 2 + random.normal(size=2)
    way = np.array([np.cos(angle), np.sin(angle)]) * min(size) * 0.4
    ends = (*(middle - way), *(middle + way))
    ImageDraw.Draw(image).line(ends, fill=tuple(np.random.default_rng(number).integers(0, 120, 3).tolist()), width=5)
    return image.convert(mode)


def encoded(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def small_files(num_classes: int = 6, num_pictures: int = 5) -> dict[str, bytes]:
    """Path -> bytes, in the formats that people have, in turn."""
    formats = (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WebP"), ("bmp", "BMP"), ("tif", "TIFF"), ("gif", "GIF"))
    files = {}
    for number in range(num_classes):
        for hand in range(num_pictures):
            extension, name = formats[(number + hand) % len(formats)]
            files[f"class {number}/{hand:02d}.{extension}"] = encoded(drawn(number, hand), name)
    return files


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1234567890.25  # type: ignore[assignment] # a pax header
            archive.addfile(member, io.BytesIO(content))
    return path


def folder_params(path: Path, **changes: object) -> DatasetParams:
    return DatasetParams(source="folder", splits={"random": RandomSplit(num_valid=1, num_test=2)},
                         folder=FolderParams(path=str(path), **changes))  # type: ignore[arg-type]
