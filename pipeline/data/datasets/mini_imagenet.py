"""miniImageNet: 100 synsets x 600 photographs of ILSVRC2012's training archive, picked by name, as square PNGs.

`vinyals`: the authors' own list [Vinyals et al. 2016]; `ravi`: that of Ravi and Larochelle [2017], of other synsets and
other images, which most later work uses.
"""

import csv
import io
import re
import zlib
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from pipeline.data.datasets.imagenet import LISTING, bring_listing, check_whole
from pipeline.data.datasets.photographs import PhotographReader, open_photograph
from pipeline.data.datasets.synset_archive import Member, raw_sample, read_listing, scan_synsets
from pipeline.data.download import recorded_checksums
from pipeline.data.large_archives import archive_path, check_unchanged
from pipeline.data.raw import RawSample, ReadSample
from pipeline.data.sources import TRAINING, files_of
from pipeline.data.spec import DatasetParams

EXTENSION = "png"
NUM_CLASSES, IMAGES_PER_CLASS = 100, 600
_NAME = re.compile(r"(n\d{8})_\d+\.JPEG")
_STRAY = re.compile(r"data/imagenet/train/n\d{8}/:|")  # the headings of `ls`, and empty lines


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """List the archive, and check that it has the images that the list names, unless it is a sample."""
    archive = archive_path(raw_dir, TRAINING.name)
    bring_listing(raw_dir, params, scan_synsets(archive))
    if not params.mini_imagenet.sample:
        check_whole(archive, read_listing(raw_dir / LISTING, archive))
    _samples(raw_dir, params)


def read_raw(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    """The images of the list, without those of 0 bytes.

    Raises:
        ValueError: a list that is not of 100 x 600 images; one of them is not in the archive (unless `sample`); the
            archive is not there or has changed since it was listed.
    """
    check_unchanged(raw_dir, TRAINING.name, recorded_checksums(raw_dir).get(TRAINING.name))
    return _samples(raw_dir, params)


def read_left_out(raw_dir: Path, params: DatasetParams) -> dict[str, int]:
    """How many of the images have 0 bytes."""
    empty = Counter(_read_selected(raw_dir, params)["size"].to_pylist())[0]
    return {"0 bytes": empty} if empty else {}


def open_raw(raw_dir: Path, params: DatasetParams) -> ReadSample:
    """The PNG that is stored of a photograph."""
    stored = params.mini_imagenet
    store = partial(_store, image_size=stored.image_size)
    return PhotographReader(archive_path(raw_dir, TRAINING.name), store, stored.keep_damaged)


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


def _samples(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    listed = _read_selected(raw_dir, params)
    size = _stored_size(params.mini_imagenet.image_size)
    members = (Member(*row) for row in zip(*listed.to_pydict().values(), strict=True))
    return [raw_sample(member, TRAINING.name, size) for member in members if member.size > 0]


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


def _store(content: bytes, oddities: Counter[str], keep_damaged: bool, image_size: int) -> bytes:
    """The whole image squashed to a square (Lanczos, as in most copies of miniImageNet), RGB.

    PNG by Huffman codes alone: zlib's versions differ in all else, and the same input is to give the same bytes.
    """
    image = Image.fromarray(open_photograph(content, oddities, keep_damaged).pixels).convert("RGB")
    square = image.resize((image_size, image_size), Image.Resampling.LANCZOS, reducing_gap=None)
    buffer = io.BytesIO()
    square.save(buffer, "PNG", compress_level=9, compress_type=zlib.Z_HUFFMAN_ONLY)
    return buffer.getvalue()


def _stored_size(image_size: int) -> int:
    """A guess: 2.2 bytes a pixel, measured at 84 x 84."""
    return round(2.2 * image_size * image_size)
