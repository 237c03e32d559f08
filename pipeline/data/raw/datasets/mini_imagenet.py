"""miniImageNet: 100 synsets x 600 photographs, picked by name from ILSVRC2012's training archive, as square PNGs; or
the photographs of 84 x 84 that are passed around (`prepared`), as the JPEGs that they are.

`vinyals`: the authors' own list [Vinyals et al. 2016]; `ravi`: that of Ravi and Larochelle [2017], of other synsets and
other images, which most later work uses. Prepared photographs are those of `ravi`.
"""

import csv
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from pipeline.data.raw.datasets.imagenet import LISTING, bring_listing, check_whole
from pipeline.data.raw.download import recorded_checksums
from pipeline.data.raw.linked_archives import archive_path, check_unchanged
from pipeline.data.raw.readers.imagenet_tars import (
    Member,
    hold_out,
    raw_sample,
    read_listing,
    scan_images,
    scan_synsets,
)
from pipeline.data.raw.readers.mini_photographs import NAME, PHOTOGRAPHS
from pipeline.data.raw.readers.photographs import KEEP, PhotographReader, encode_jpeg, encode_png, open_photograph
from pipeline.data.raw.registry import TRAINING, files_of
from pipeline.data.raw.source import RawSample, ReadSample
from pipeline.data.spec import DatasetParams

NUM_CLASSES, IMAGES_PER_CLASS = 100, 600
SYNSET_LETTERS = len("n01532829")
MENDED_QUALITY = 95
KEEP_PREPARED = "take another copy, or write keep_damaged: true, which keeps what can be decoded at all"
_NAME = re.compile(r"(n\d{8})_\d+\.JPEG")
_STRAY = re.compile(r"data/imagenet/train/n\d{8}/:|")  # the headings of `ls`, and empty lines


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """List the images, and check that all are there, unless they are known to be a part.

    Args:
        folder: where prepared photographs came from, for messages.
    """
    archive = archive_path(raw_dir, _archive_name(params))
    if params.is_prepared:
        bring_listing(raw_dir, [PHOTOGRAPHS], _scan_photographs(archive))
        _check_counts(folder or str(archive), raw_dir, params)
    else:
        bring_listing(raw_dir, [TRAINING.name], scan_synsets(archive))
        if not params.mini_imagenet.sample:
            check_whole(archive, read_listing(raw_dir / LISTING, archive))
    _samples(raw_dir, params)


def read_raw(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    """The images that `params.mini_imagenet.images` names, without those of 0 bytes.

    Raises:
        ValueError: not 100 x 600 images in the list, or one of them not in the archive (unless `sample`); too few to
            hold some out; the archive is not there or has changed since it was listed.
    """
    name = _archive_name(params)
    check_unchanged(raw_dir, name, recorded_checksums(raw_dir).get(name))
    if params.is_prepared:
        _check_counts(str(archive_path(raw_dir, name)), raw_dir, params)
    return _samples(raw_dir, params)


def read_oddities(raw_dir: Path, params: DatasetParams) -> dict[str, int]:
    """Number of listed images with 0 bytes, or of prepared photographs with the same bytes as one before."""
    if params.is_prepared:
        found = {"same bytes as another": _count_twins(raw_dir, params)}
    else:
        found = {"0 bytes": Counter(_read_selected(raw_dir, params)["size"].to_pylist())[0]}
    return {what: count for what, count in found.items() if count}


def open_raw(raw_dir: Path, params: DatasetParams) -> ReadSample:
    """A reader of the PNG that is stored for a photograph of the archive, or of the prepared JPEG."""
    stored = params.mini_imagenet
    store = partial(_keep if stored.prepared else _store, image_size=stored.image_size, max_pixels=params.max_pixels)
    remedy = KEEP_PREPARED if stored.prepared else KEEP
    return PhotographReader(archive_path(raw_dir, _archive_name(params)), store, stored.keep_damaged, remedy)


def extension_of(parameters: Mapping[str, Any]) -> str:
    """See `raw.extension_of`."""
    return "jpg" if parameters["mini_imagenet"]["prepared"] else "png"


def read_image_list(path: Path) -> list[str]:
    """The file names in the authors' list or in a CSV of Ravi and Larochelle.

    Raises:
        ValueError: not there, or a line that is no file name; names it.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run the download first")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if path.suffix == ".csv":
        names = [row[-1].strip() for row in csv.reader(text.splitlines()[1:])]
    else:
        names = [line.strip() for line in text.splitlines() if not _STRAY.fullmatch(line.strip())]
    for name in names:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{path}: {name!r} is no image of ImageNet, such as n01614925_1001.JPEG; delete the file "
                             "and run the download again")
    return names


def read_lists(raw_dir: Path, params: DatasetParams) -> list[str]:
    """All file names of the chosen list. Raises ValueError unless they are 100 synsets x 600 images, none twice."""
    paths = [raw_dir / file.name for file in files_of(params)]
    names = [name for path in paths for name in read_image_list(path)]
    counts = Counter(name.partition("_")[0] for name in set(names))
    if len(names) != NUM_CLASSES * IMAGES_PER_CLASS or set(counts.values()) != {IMAGES_PER_CLASS}:
        raise ValueError(f"{', '.join(map(str, paths))}: {len(names):,} images of {len(counts)} synsets, expected "
                         f"{NUM_CLASSES} x {IMAGES_PER_CLASS}; delete the files and run the download again")
    return names


def _archive_name(params: DatasetParams) -> str:
    return PHOTOGRAPHS if params.is_prepared else TRAINING.name


def _scan_photographs(archive: Path) -> Iterator[list[Member]]:
    """The photographs of each synset, of the tar that `pack_photographs` has written, which is sorted by name."""
    members = (Member(name[:SYNSET_LETTERS], name, offset, size) for name, offset, size in scan_images(archive, NAME))
    for _, of_class in groupby(members, key=lambda member: member.class_name):
        yield list(of_class)


def _check_counts(place: str, raw_dir: Path, params: DatasetParams) -> None:
    """Raises ValueError unless there are 100 synsets x 600 prepared photographs, or they are known to be a part."""
    counts = Counter(read_listing(raw_dir / LISTING, archive_path(raw_dir, PHOTOGRAPHS))["class_name"].to_pylist())
    wrong = sorted(name for name, count in counts.items() if count != IMAGES_PER_CLASS)
    if params.mini_imagenet.sample or (len(counts) == NUM_CLASSES and not wrong):
        return
    found = (f"{counts[wrong[0]]} photographs of {wrong[0]} ({len(wrong)} such of {len(counts)} synsets)" if wrong else
             f"{len(counts)} synsets")
    raise ValueError(f"{place}: {found}, expected {NUM_CLASSES} synsets x {IMAGES_PER_CLASS}; "
                     "take a whole copy, or write mini_imagenet: {sample: true} if it is known to be a part")


def _count_twins(raw_dir: Path, params: DatasetParams) -> int:
    """Number of photographs that repeat the bytes of another one; only photographs of equal size are read."""
    of_size = defaultdict(list)
    for member in _members(raw_dir, params):
        of_size[member.size].append(member)
    twins = 0
    with open(archive_path(raw_dir, PHOTOGRAPHS), "rb") as file:
        for size, members in of_size.items():
            if len(members) == 1:
                continue
            digests = {hashlib.sha256(os.pread(file.fileno(), size, member.offset)).digest() for member in members}
            twins += len(members) - len(digests)
    return twins


def _members(raw_dir: Path, params: DatasetParams) -> Iterator[Member]:
    archive = archive_path(raw_dir, _archive_name(params))
    stored = params.mini_imagenet
    listed = read_listing(raw_dir / LISTING, archive) if stored.prepared else _read_selected(raw_dir, params)
    members = (Member(*row) for row in zip(*listed.to_pydict().values(), strict=True))
    present = (member for member in members if member.size > 0 or stored.prepared)
    return hold_out(present, stored.images, stored.held_out, archive)


def _samples(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    stored = params.mini_imagenet
    return [raw_sample(member, _archive_name(params),
                       member.size if stored.prepared else _stored_size(stored.image_size))
            for member in _members(raw_dir, params)]


def _read_selected(raw_dir: Path, params: DatasetParams) -> pa.Table:
    archive = archive_path(raw_dir, TRAINING.name)
    names = read_lists(raw_dir, params)
    table = read_listing(raw_dir / LISTING, archive)
    selected = table.filter(pc.is_in(table["name"], pa.array(names)))
    if len(selected) < len(names) and not params.mini_imagenet.sample:
        missing = sorted(set(names) - set(selected["name"].to_pylist()))
        raise ValueError(f"{archive}: {missing[0]}, an image of miniImageNet's list {params.mini_imagenet.list!r}, is "
                         f"not in it ({len(missing):,} such of {len(names):,}); take the whole archive, or write "
                         "mini_imagenet: {sample: true} if it is known to be a part")
    if not len(selected):
        raise ValueError(f"{archive}: none of the {len(names):,} images of the list {params.mini_imagenet.list!r} is "
                         "in it; take the whole archive")
    return selected


def _store(content: bytes, oddities: Counter[str], keep_damaged: bool, image_size: int, max_pixels: int) -> bytes:
    """The whole image squashed to a square (Lanczos, as in most copies of miniImageNet), RGB, as PNG."""
    image = Image.fromarray(open_photograph(content, oddities, keep_damaged, max_pixels).pixels).convert("RGB")
    return encode_png(image.resize((image_size, image_size), Image.Resampling.LANCZOS, reducing_gap=None))


def _keep(content: bytes, oddities: Counter[str], keep_damaged: bool, image_size: int, max_pixels: int) -> bytes:
    """The bytes of a whole, upright JPEG; what had to be mended is encoded anew. Grey ones are counted."""
    pixels, odd = open_photograph(content, oddities, keep_damaged, max_pixels)
    height, width = pixels.shape[:2]
    if (width, height) != (image_size, image_size):
        raise ValueError(f"{width} x {height} pixels, not {image_size} x {image_size}; if all photographs are of "
                         "another size, write it as mini_imagenet.image_size, else take another copy")
    if pixels.ndim == 2 or np.all(pixels == pixels[:, :, :1]):
        oddities["grey"] += 1
    return encode_jpeg(Image.fromarray(pixels), MENDED_QUALITY) if odd else content


def _stored_size(image_size: int) -> int:
    """A guess: 2.2 bytes a pixel, measured at 84 x 84."""
    return round(2.2 * image_size * image_size)
