"""The listing of somebody's own pictures, with their SHA-256, and the reading of them where they lie.

The listing (Parquet, a row a picture) lies in the raw folder; it has no time and no path of this machine, so the same
pictures give the same listing. A picture is compared with its SHA-256 when it is read: who changes one is told to run
the download stage again, which lists it anew.

What the sources `folder` and `webdataset` share is here: all but how a picture's class is found.
"""

import hashlib
import os
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from matchnet.files import atomic_write
from matchnet.messages import said, shown
from matchnet.pictures import FORMATS, PictureError, format_of, read_picture
from pipeline.data.formats.parquet import read_table
from pipeline.data.raw.linked_archives import archive_path, link_origin, linked_to
from pipeline.data.raw.readers.photographs import encode_jpeg, encode_png, open_photograph, shrink, to_jpeg
from pipeline.data.raw.readers.picture_files import NOWHERE, OTHER_FILES, described, open_zip, read_part
from pipeline.data.raw.source import MendingReader, RawSample, ReadSample
from pipeline.data.raw.zip_files import why_unreadable
from pipeline.data.source_spec import FolderParams, WebdatasetParams
from pipeline.data.spec import DatasetParams
from pipeline.system.progress import Progress

LISTING, ORIGIN = "pictures.parquet", "pictures"  # in raw_dir; the link to where the pictures lie
FORMAT = "1"
_KEY = b"matchnet.pictures"
_OTHERS_KEY = b"matchnet.other_files"
_EMPTY_KEY = b"matchnet.empty_folders"
_SCHEMA = pa.schema([("class_name", pa.string()), ("key", pa.string()), ("container", pa.string()),
                     ("member", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("sha256", pa.string())])
_LISTED_AGAIN = "run the download stage, which lists the pictures"
_PLACE = re.compile(r"(?P<member>.+)@(?P<offset>-?\d+)\+(?P<size>\d+)#(?P<sha256>[0-9a-f]{64})", re.DOTALL)
_LONGEST_FOLDER, _LONGEST_NAME = 150, 90  # bytes of a key, so that it fits into the header of a tar


class Picture(NamedTuple):
    """A picture of a class; its key is made from `name`."""

    class_name: str
    name: str
    container: str
    member: str
    offset: int
    size: int
    sha256: str


def write_listing(raw_dir: Path, origin: Path, pictures: Iterable[Picture], others: Counter[str],
                  empty_folders: Callable[[], Sequence[str]] = list) -> None:
    """List the pictures in raw_dir, sorted by class and name, and link to where they lie.

    others: filled while `pictures` is read: what was passed over -> how many.
    """
    rows = []
    with Progress(f"listing {origin.name}", 0, "pictures") as progress:
        for picture in pictures:
            rows.append(picture)
            progress.advance()
    rows = sorted(_without_common_folders(rows))
    for row in rows:
        _check_name(origin, row)
    keys = list(_keys(rows))
    arrays = [pa.array([row.class_name for row in rows]), pa.array(keys), *(
        pa.array(list(column), field.type) for column, field in zip(
            list(zip(*(row[2:] for row in rows), strict=True)) or [()] * 5, list(_SCHEMA)[2:], strict=True))]
    about = {_KEY: FORMAT, _OTHERS_KEY: str(others[OTHER_FILES]), _EMPTY_KEY: "\n".join(empty_folders())}
    link_origin(origin, ORIGIN, raw_dir)
    with atomic_write(raw_dir / LISTING, "wb") as file:
        pq.write_table(pa.Table.from_arrays(arrays, schema=_SCHEMA.with_metadata(about)), file, compression="zstd")


def _without_common_folders(rows: Sequence[Picture]) -> Iterator[Picture]:
    """Class names without the folders that all classes have in common, which say nothing."""
    folders = {tuple(row.class_name.split("/")[:-1]) for row in rows}
    first, last = (min(folders), max(folders)) if folders else ((), ())
    common = next((depth for depth, (one, other) in enumerate(zip(first, last, strict=False)) if one != other),
                  min(len(first), len(last)))
    for row in rows:
        yield row._replace(class_name="/".join(row.class_name.split("/")[common:]))


def _check_name(origin: Path, row: Picture) -> None:
    for name in (row.class_name, row.member, row.container):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{origin}: {os.fsencode(name)!r} is not a name in UTF-8; rename it") from None
    if not row.class_name.isprintable() or ".." in row.class_name.split("/") or not row.class_name.strip():
        raise ValueError(f"{described(origin, row.container, row.member)}: its class would be called "
                         f"{shown(row.class_name)}; use a name of letters, digits and signs that are seen")


def _keys(rows: Sequence[Picture]) -> Iterator[str]:
    """Keys of the samples in the shards: class and file name, where a tar and WebDataset can take them."""
    seen: set[str] = set()
    for row in rows:
        folder, name = _short(row.class_name, _LONGEST_FOLDER), _short(row.name, _LONGEST_NAME)
        key, number = f"{folder}/{name}", 2
        while key in seen:
            key, number = f"{folder}/{name}~{number}", number + 1
        seen.add(key)
        yield key


def _short(name: str, longest: int) -> str:
    clean = "".join(letter if letter.isalnum() or letter in "-_/ +=,@()" else "_" for letter in name)
    if len(clean.encode()) <= longest:
        return clean
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{clean.encode()[:longest - 13].decode(errors='ignore')}~{digest}"


def read_raw(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    """The pictures of all classes that have enough.

    Raises:
        ValueError: not listed; no picture; fewer than two classes; two that differ by the case of letters alone; a
            class folder without a picture, unless `min_pictures` leaves it out.
    """
    table, own = _read(raw_dir), params.picture_files
    origin = linked_to(archive_path(raw_dir, ORIGIN))
    counts = _counts(table)
    _check_classes(origin, counts, own, int(table.schema.metadata[_OTHERS_KEY]))
    samples = []
    for class_name, key, container, member, offset, size, sha256 in zip(*table.to_pydict().values(), strict=True):
        if counts[class_name] >= own.min_pictures:
            samples.append(RawSample(key, class_name, container or origin.name, f"{member}@{offset}+{size}#{sha256}",
                                     _stored_size(size, own)))
    return samples


def read_left_out(raw_dir: Path, params: DatasetParams) -> dict[str, int]:
    """Classes with fewer pictures than `min_pictures` -> how many they have."""
    counts = _counts(_read(raw_dir))
    return {name: count for name, count in sorted(counts.items()) if count < params.picture_files.min_pictures}


def read_oddities(raw_dir: Path, params: DatasetParams) -> dict[str, int]:
    """Number of files that were passed over because they are no pictures."""
    others = int(_read(raw_dir).schema.metadata[_OTHERS_KEY])
    return {OTHER_FILES: others} if others else {}


def _read(raw_dir: Path) -> pa.Table:
    return read_table(raw_dir / LISTING, _KEY, FORMAT, "listing", _LISTED_AGAIN)


def _counts(table: pa.Table) -> Counter[str]:
    """Class -> pictures; 0 for a folder without any."""
    counts = Counter(table["class_name"].to_pylist())
    for name in filter(None, table.schema.metadata[_EMPTY_KEY].decode().split("\n")):
        counts.setdefault(name, 0)
    return counts


def _check_classes(origin: Path, counts: Counter[str], own: FolderParams | WebdatasetParams, others: int) -> None:
    if not counts.total():
        beside = f" ({others:,} other files)" if others else ""
        raise ValueError(f"{origin}: no picture in it{beside}; pictures lie in a folder a class, class/picture.png, in "
                         f"one of these formats: {', '.join(FORMATS)}")
    empty = sorted(name for name, count in counts.items() if not count)
    if empty and not own.min_pictures:
        raise ValueError(f"{origin / empty[0]}: a class without a picture ({len(empty)} such); put pictures there, "
                         "remove it, or write min_pictures: 1, which leaves such classes out")
    spelt: dict[str, str] = {}
    for name in sorted(counts):
        same = unicodedata.normalize("NFC", name).casefold()
        if same in spelt:
            raise ValueError(f"{origin}: classes {spelt[same]!r} and {name!r} differ in how they are spelt alone, and "
                             "elsewhere they would be one; put their pictures together, or rename one")
        spelt[same] = name
    enough = [name for name, count in counts.items() if count >= own.min_pictures]
    if len(enough) < 2:
        few = f" with min_pictures ({own.min_pictures}) or more" if own.min_pictures > 1 else ""
        found = f"one class{few}, {enough[0]!r}" if enough else f"no class{few}"
        remedy = "write a lower min_pictures" if few else "give each class a folder of its own, class/picture.png"
        raise ValueError(f"{origin}: {found}, and at least two are told apart; {remedy}")


def _stored_size(size: int, own: FolderParams | WebdatasetParams) -> int:
    """A guess: 2.2 bytes a pixel as PNG, 0.3 as JPEG, of pictures of 4 by 3 that have `shorter_side`."""
    if own.shorter_side is None:
        return size * (1 if own.format == "jpg" else 4)
    return min(4 * size, round(4 / 3 * own.shorter_side ** 2 * (2.2 if own.format == "png" else 0.3)))


def extension_of(parameters: Mapping[str, Any]) -> str:
    """The extension that the pictures are stored with."""
    return parameters[parameters["source"]]["format"]


def open_raw(raw_dir: Path, params: DatasetParams) -> ReadSample:
    """A reader of the bytes that are stored for a picture."""
    return PictureReader(raw_dir, params)


class PictureReader(MendingReader):
    """Reads the pictures where they lie, and encodes each as it is stored."""

    def __init__(self, raw_dir: Path, params: DatasetParams) -> None:
        self.origin = linked_to(archive_path(raw_dir, ORIGIN))
        os.stat(self.origin)  # raises an error with the path if this node does not see it
        self._own, self._max_pixels = params.picture_files, params.max_pixels
        self._keep = (f"delete the picture, or write keep_damaged: true in datasets.{raw_dir.name}.{params.source}, "
                      "which keeps it as it decodes")
        self._is_folder = self.origin.is_dir()
        self._zip = None if self._is_folder or not zipfile.is_zipfile(self.origin) else open_zip(self.origin)
        self.oddities = Counter()

    def __call__(self, sample: RawSample) -> bytes:
        """Raises ValueError, naming the picture: changed since it was listed, unreadable, or not to be stored."""
        found = _PLACE.fullmatch(sample.member)
        assert found is not None, sample.member
        container = sample.archive if int(found["offset"]) != NOWHERE and self._is_folder else ""
        place = described(self.origin, container, found["member"])
        content = self._read(container, found["member"], int(found["offset"]), int(found["size"]), place)
        if hashlib.sha256(content).hexdigest() != found["sha256"]:
            raise ValueError(f"{place}: changed since it was listed; run the download stage again")
        try:
            return self._stored(content)
        except PictureError as error:
            remedy = self._keep if error.keepable else error.remedy
            raise ValueError(f"{place}: {error.reason}; {remedy}") from error
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error

    def _read(self, container: str, member: str, offset: int, size: int, place: str) -> bytes:
        try:
            if self._zip is not None:
                if reason := why_unreadable(self._zip.getinfo(member)):
                    raise ValueError(reason)
                with self._zip.open(member) as file:
                    return file.read(size + 1)
            if offset != NOWHERE:
                return read_part(self.origin / container if container else self.origin, offset, size)
            with open(self.origin / member, "rb") as file:
                return file.read(size + 1)
        except FileNotFoundError as error:
            raise ValueError(f"{place}: not there any more; run the download stage again") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise ValueError(f"{place}: {said(error)}; run the download stage again") from error
        except Exception as error:  # errors of zipfile and of its decompressors
            raise ValueError(f"{place}: {said(error)}; run the download stage again") from error

    def _stored(self, content: bytes) -> bytes:
        own = self._own
        is_jpeg = format_of(content) == "JPEG"
        if is_jpeg and own.format == "jpg":
            return to_jpeg(content, own.shorter_side, own.quality, self.oddities, own.keep_damaged, self._max_pixels)
        if is_jpeg:
            pixels = open_photograph(content, self.oddities, own.keep_damaged, self._max_pixels).pixels
            image = Image.fromarray(pixels)
        else:
            image = read_picture(content, paper=own.paper, max_pixels=self._max_pixels, oddities=self.oddities)
        if own.shorter_side is not None and min(image.size) > own.shorter_side:
            image = shrink(image, own.shorter_side)
        return encode_png(image) if own.format == "png" else encode_jpeg(image, own.quality)

    def close(self) -> None:
        if self._zip is not None:
            self._zip.close()
