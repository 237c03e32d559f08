"""ILSVRC2012 [Russakovsky et al. 2015]: photographs of 1,000 synsets, as JPEG; a class is a synset, `n02085620`.

The archives are read where they lie (see synset_archive.py); labels of the validation images are the devkit's.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from matchnet.files import atomic_write
from pipeline.data.raw.download import recorded_checksums
from pipeline.data.raw.linked_archives import archive_path, check_unchanged, listing_path
from pipeline.data.raw.readers.ilsvrc_devkit import read_labels
from pipeline.data.raw.readers.imagenet_tars import (
    AGAIN,
    Member,
    hold_out,
    is_listing,
    raw_sample,
    read_listing,
    scan_images,
    scan_synsets,
    write_listing,
)
from pipeline.data.raw.readers.photographs import PhotographReader, to_jpeg
from pipeline.data.raw.registry import DEVKIT, TRAINING, VALIDATION, archives_of
from pipeline.data.raw.source import RawSample, ReadSample
from pipeline.data.source_spec import ImagenetParams
from pipeline.data.spec import DatasetParams
from pipeline.data.splits import read_list

EXTENSION = "jpg"
LISTING = "images.parquet"
SYNSETS = "ilsvrc2012.txt"  # a file of pipeline/data/lists
NUM_IMAGES = {TRAINING.name: 1_281_167, VALIDATION.name: 50_000}
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """List the archive; check that 1,000 synsets and all images are there, unless it is a sample."""
    name = _archive_name(params)
    archive = archive_path(raw_dir, name)
    synsets = scan_synsets(archive) if name == TRAINING.name else _scan_validation(archive, raw_dir)
    bring_listing(raw_dir, [archive.name for archive in archives_of(params)], synsets)
    if not params.imagenet.sample:
        check_whole(archive, _read(raw_dir, params))
    _samples(raw_dir, params)


def read_raw(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    """The photographs that `params.imagenet.images` names, without those of 0 bytes.

    Raises:
        ValueError: the archive is not there or has changed since it was listed; a class has too few images.
    """
    name = _archive_name(params)
    check_unchanged(raw_dir, name, recorded_checksums(raw_dir).get(name))
    return _samples(raw_dir, params)


def read_oddities(raw_dir: Path, params: DatasetParams) -> dict[str, int]:
    """Number of images of the archive that have 0 bytes."""
    empty = Counter(_read(raw_dir, params)["size"].to_pylist())[0]
    return {"0 bytes": empty} if empty else {}


def open_raw(raw_dir: Path, params: DatasetParams) -> ReadSample:
    """A reader of the JPEG that is stored for a photograph."""
    stored = params.imagenet
    store = partial(_store, shorter_side=stored.shorter_side, quality=stored.quality, max_pixels=params.max_pixels)
    return PhotographReader(archive_path(raw_dir, _archive_name(params)), store, stored.keep_damaged)


def bring_listing(raw_dir: Path, names: Sequence[str], synsets: Iterable[list[Member]]) -> None:
    """Write the listing of `synsets`, which are not asked for where archives of the same bytes were listed before.

    names: the archives that the listing follows from; the images are in the first.
    """
    archive, listing = archive_path(raw_dir, names[0]), listing_path(raw_dir, names)
    if not is_listing(listing, archive):
        write_listing(listing, archive, synsets)
    with open(listing, "rb") as file, atomic_write(raw_dir / LISTING, "wb") as copy:
        shutil.copyfileobj(file, copy)


def check_whole(archive: Path, listing: pa.Table) -> None:
    """Raises ValueError, naming a synset, unless the listing is of the real archive's synsets and number of images."""
    found, known = set(listing["class_name"].unique().to_pylist()), set(read_list(SYNSETS))
    wrong = [f"{what}: {len(names):,} ({min(names)} is the first)" for what, names in
             (("synsets missing", known - found), ("synsets that are not of ILSVRC2012", found - known)) if names]
    if len(listing) != NUM_IMAGES[archive.name]:
        wrong.append(f"{len(listing):,} images, not {NUM_IMAGES[archive.name]:,}")
    if wrong:
        raise ValueError(f"{archive}: {'; '.join(wrong)}: {AGAIN}; or write sample: true, if it is known to be a part")


def _read(raw_dir: Path, params: DatasetParams) -> pa.Table:
    return read_listing(raw_dir / LISTING, archive_path(raw_dir, _archive_name(params)))


def _samples(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    archive = archive_path(raw_dir, _archive_name(params))
    members = (Member(*row) for row in zip(*_read(raw_dir, params).to_pydict().values(), strict=True))
    present = (member for member in members if member.size > 0)
    stored = params.imagenet
    chosen = present if stored.images == "validation" else hold_out(present, stored.images, stored.held_out, archive)
    return [raw_sample(member, archive.name, _stored_size(member.size, params.imagenet)) for member in chosen]


def _archive_name(params: DatasetParams) -> str:
    return VALIDATION.name if params.imagenet.images == "validation" else TRAINING.name


def _store(content: bytes, oddities: Counter[str], keep_damaged: bool, shorter_side: int | None, quality: int,
           max_pixels: int) -> bytes:
    return to_jpeg(content, shorter_side, quality, oddities, keep_damaged, max_pixels)


def _stored_size(size: int, params: ImagenetParams) -> int:
    """A guess, within a third on the average of 32 photographs at sides of 64 to 320 and qualities of 75 to 95.

    A photograph has 1.43 pixels for one of the square of its shorter side; a pixel takes 0.30 bytes at a side of 256
    and quality 90, more in smaller pictures.
    """
    if params.shorter_side is None:
        return size
    side = params.shorter_side
    a_pixel = 0.30 * (256 / side) ** 0.4 * 1.045 ** (params.quality - 90)
    return min(size, round(1.43 * side * side * a_pixel))


def _scan_validation(archive: Path, raw_dir: Path) -> Iterator[list[Member]]:
    """The images of the flat archive, all of a class together. A generator: nothing is read until it is asked."""
    devkit = archive_path(raw_dir, DEVKIT.name)
    labels = read_labels(devkit)
    of_class: dict[str, list[Member]] = {}
    for name, offset, size in scan_images(archive, _VALIDATION_NAME):
        number = int(name.removesuffix(".JPEG").rpartition("_")[2])
        if not 1 <= number <= len(labels):
            raise ValueError(f"{archive}: member {name!r} has no label: {devkit} has {len(labels):,}; {AGAIN}")
        of_class.setdefault(labels[number - 1], []).append(Member(labels[number - 1], name, offset, size))
    yield from (of_class[class_name] for class_name in sorted(of_class))
