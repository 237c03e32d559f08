"""A raw folder laid out as Omniglot's, of six small alphabets, for tests; and where the real one may be."""

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from pipeline.data.raw.datasets import omniglot
from pipeline.data.spec import DatasetParams, FamilySplit, RandomSplit

ALPHABETS = {"images_background.zip": {"Greek": 3, "Latin": 4, "Hebrew": 2, "Thai": 2},
             "images_evaluation.zip": {"Tibetan": 3, "Ge_ez": 2}}
COUNTS = {archive: sum(alphabets.values()) for archive, alphabets in ALPHABETS.items()}
NUM_CLASSES = sum(COUNTS.values())
PARAMS = DatasetParams(source="omniglot", invert=True, shard_size_mib=0.05, splits={
    "random": RandomSplit(num_valid=2, num_test=4),
    "alphabets": FamilySplit(num_valid=1, num_test=2, seed=1)})


def png_of(text: str) -> bytes:
    """A 1-bit drawing that differs from text to text."""
    image = Image.new("1", (105, 105), 1)
    numbers = hashlib.sha256(text.encode()).digest()
    ImageDraw.Draw(image).line([(10 + value // 3, 10 + other // 3) for value, other in
                                zip(numbers[::2], numbers[1::2], strict=True)], fill=0, width=3)
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def members_of(archive: str) -> dict[str, bytes]:
    """Member -> bytes, as the real archive names them."""
    folder = archive.removesuffix(".zip")
    names = (f"{folder}/{alphabet}/character{character:02d}/{character:04d}_{drawer:02d}.png"
             for alphabet, count in ALPHABETS[archive].items()
             for character in range(1, count + 1) for drawer in range(1, 21))
    return {name: png_of(name) for name in names}


def write_zip(path: Path, members: Mapping) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def small_omniglot(raw_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A raw folder with both archives; the counts that the reader expects are those of the small ones."""
    monkeypatch.setattr(omniglot, "CHARACTERS", COUNTS)
    raw_dir.mkdir(parents=True, exist_ok=True)
    for archive in ALPHABETS:
        write_zip(raw_dir / archive, members_of(archive))
    return raw_dir


def mirror_if_any() -> str:
    """The mirror of public downloads: MATCHNET_MIRROR, or beside the repository; "" without one."""
    beside = Path(__file__).parents[2] / "shared" / "mirror"
    return os.environ.get("MATCHNET_MIRROR") or (str(beside) if beside.is_dir() else "")


def mirror() -> str:
    """The same; the test that asks is skipped without one."""
    if not (place := mirror_if_any()):
        pytest.skip("no mirror of the public downloads: set MATCHNET_MIRROR")
    return place
