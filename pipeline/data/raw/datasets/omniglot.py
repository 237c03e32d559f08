"""Omniglot [Lake et al. 2015]: two zips of 105 x 105 PNGs, `images_background/Greek/character03/0394_07.png`.

A class is a character (`Greek/character03`), its family the alphabet; the last number is the drawer, 1 to 20.
"""

import re
from collections import defaultdict
from pathlib import Path

from pipeline.data.raw.source import RawSample, ReadSample
from pipeline.data.raw.zip_files import AGAIN, list_zip, open_zips
from pipeline.data.spec import DatasetParams

EXTENSION = "png"
CHARACTERS = {"images_background.zip": 964, "images_evaluation.zip": 659}
DRAWERS = range(1, 21)
_MEMBER = re.compile(r"[^/]+/(?P<alphabet>[^/]+)/(?P<character>character\d+)/\d+_(?P<drawer>\d+)\.png")


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """Check that 1,623 characters by 20 drawers have come."""
    read_raw(raw_dir, params)


def read_raw(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    """All drawings of both archives.

    Raises:
        ValueError: an archive is missing or cut short, a member is unsafe or empty, or a drawer or
            a character is missing.
    """
    listed = (_read_archive(raw_dir / archive, count) for archive, count in CHARACTERS.items())
    return [sample for samples in listed for sample in samples]


def open_raw(raw_dir: Path, params: DatasetParams) -> ReadSample:
    """The PNG bytes of a sample, as the archive has them."""
    return open_zips(raw_dir)


def _read_archive(archive: Path, num_characters: int) -> list[RawSample]:
    drawers: dict[str, set[int]] = defaultdict(set)
    samples = []
    for member in list_zip(archive):
        found = _MEMBER.fullmatch(member.filename)
        if found is None:
            continue
        drawer, class_name = int(found["drawer"]), f"{found['alphabet']}/{found['character']}"
        drawers[class_name].add(drawer)
        key = f"{class_name}/{drawer:02d}"
        samples.append(RawSample(key, class_name, archive.name, member.filename, member.file_size))
    _check_complete(archive, drawers, len(samples), num_characters)
    return samples


def _check_complete(archive: Path, drawers: dict[str, set[int]], num_samples: int,
                    num_characters: int) -> None:
    for class_name, found in drawers.items():
        if found != set(DRAWERS):
            missing = ", ".join(map(str, sorted(set(DRAWERS) - found))) or "none"
            raise ValueError(f"{archive}: {class_name} has {len(found)} drawers, not {len(DRAWERS)} "
                             f"(missing: {missing}); {AGAIN}")
    if len(drawers) != num_characters or num_samples != num_characters * len(DRAWERS):
        raise ValueError(f"{archive}: {len(drawers)} characters and {num_samples} drawings, "
                         f"expected {num_characters} and {num_characters * len(DRAWERS)}; {AGAIN}")
