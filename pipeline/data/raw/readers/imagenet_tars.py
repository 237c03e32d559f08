"""Tars of ILSVRC2012, read where they lie: listed once, never unpacked; then an image is one `pread`.

The training archive is a tar of one tar a synset, `n02085620.tar`, of photographs `n02085620_1152.JPEG`; the validation
archive a flat tar. Any tar may have written them: the headers that Python's and GNU's put before a member are read,
folders are passed over. A listing (Parquet, one row an image) has the place of each image's bytes in the outer file.
"""

import os
import re
import socket
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from matchnet.files import atomic_write
from matchnet.messages import said, shown
from pipeline.data.formats.parquet import read_table
from pipeline.data.raw.linked_archives import linked_to
from pipeline.data.raw.source import RawSample
from pipeline.system.progress import Progress

FORMAT = "1"
AGAIN = "it is not as ImageNet's archives are: download it again, then run the download stage"
LISTED_AGAIN = "run the download stage, which lists the archive"
_KEY = b"matchnet.archive"
_SCHEMA = pa.schema([("class_name", pa.string()), ("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
_SYNSET_TAR = re.compile(r"(n\d{8})\.tar")
_PLACE = re.compile(r"(?P<name>.+)@(?P<offset>\d+)\+(?P<size>\d+)")
_BLOCK = tarfile.BLOCKSIZE
_MOST_OF_HEADER = 1 << 16  # bytes of the headers that precede a member's own
MOST_OF_IMAGE = 1 << 26  # bytes: no photograph of ILSVRC2012 has more than a quarter


class Member(NamedTuple):
    """One image: its synset, its file name, and where its bytes are in the archive."""

    class_name: str
    name: str
    offset: int
    size: int


def scan_synsets(archive: Path) -> Iterator[list[Member]]:
    """The images of each synset's tar, in the archive's order; no more than one synset is held in memory.

    Raises:
        ValueError: the archive is cut short, or holds what ILSVRC2012's does not; names synset tar and member.
    """
    seen: set[str] = set()
    with open(archive, "rb", buffering=0) as file:
        size = os.path.getsize(archive)
        with Progress(f"listing {archive.name}", size, "B") as progress:
            for name, offset, length in tar_members(file.fileno(), str(archive), 0, size):
                progress.advance(offset - progress.done)
                found = _SYNSET_TAR.fullmatch(name)
                if found is None or name in seen:
                    reason = "is no tar of a synset, such as n02085620.tar" if found is None else "is there twice"
                    raise ValueError(f"{archive}: member {shown(name)} {reason}; {AGAIN}")
                seen.add(name)
                yield _scan_synset(file.fileno(), f"{archive}: {name}", found[1], offset, offset + length)


def scan_images(archive: Path, file_name: re.Pattern[str]) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each image of a flat tar whose members are all called like `file_name`."""
    with open(archive, "rb", buffering=0) as file:
        for name, offset, size in tar_members(file.fileno(), str(archive), 0, os.path.getsize(archive)):
            if file_name.fullmatch(name) is None:
                raise ValueError(f"{archive}: member {shown(name)} is not called like {file_name.pattern}; {AGAIN}")
            _require_image_size(str(archive), name, size)
            yield name, offset, size


def _require_image_size(what: str, name: str, size: int) -> None:
    if size > MOST_OF_IMAGE:
        raise ValueError(f"{what}: member {shown(name)} has {size:,} bytes, and an image of ImageNet has at most "
                         f"{MOST_OF_IMAGE:,}; {AGAIN}")


def write_listing(path: Path, archive: Path, synsets: Iterable[list[Member]]) -> None:
    """Write the listing of an archive, atomically: a row group a synset."""
    about = f"{FORMAT} {archive.name} {os.path.getsize(archive)}".encode()
    schema = _SCHEMA.with_metadata({_KEY: about})
    with atomic_write(path, "wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for members in synsets:
            columns = zip(*sorted(members), strict=True) if members else [[]] * len(_SCHEMA)
            arrays = [pa.array(list(column), field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def read_listing(path: Path, archive: Path) -> pa.Table:
    """The listing, of the columns of Member, sorted by name within each class.

    Raises:
        ValueError: no listing, or one of an archive of another size.
    """
    expected = f"{FORMAT} {archive.name} {os.path.getsize(archive)}"
    return read_table(path, _KEY, expected, "a listing (version, archive, bytes)", LISTED_AGAIN)


def is_listing(path: Path, archive: Path) -> bool:
    """Whether `read_listing` can read the file."""
    try:
        read_listing(path, archive)
    except ValueError:
        return False
    return True


def hold_out(members: Iterable[Member], images: str, held_out: int, archive: Path) -> Iterator[Member]:
    """The last `held_out` images of each class by name (images: held_out), or all others (images: train).

    Args:
        members: sorted by class and name.
    """
    for class_name, group in groupby(members, key=lambda member: member.class_name):
        of_class = list(group)
        num_train = len(of_class) - held_out
        if num_train < 1:
            raise ValueError(f"held_out: {held_out} of each class, but {class_name} has {len(of_class)} images in "
                             f"{archive}: none is left for train; hold out fewer")
        yield from of_class[num_train:] if images == "held_out" else of_class[:num_train]


def raw_sample(member: Member, archive: str, size: int) -> RawSample:
    """The sample of an image: key `n02085620/n02085620_1152`; `size` is what it will have in a shard, or a guess."""
    key = f"{member.class_name}/{PurePosixPath(member.name).stem}"
    place = f"{member.class_name}/{member.name}@{member.offset}+{member.size}"
    return RawSample(key, member.class_name, archive, place, size)


class ArchiveReader:
    """The bytes of the images of one archive, by what `raw_sample` has put into a sample's `member`.

    Raises (when opened):
        OSError: this machine does not see the archive; names both.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        try:
            self._fd = os.open(archive, os.O_RDONLY)
        except OSError as error:
            raise OSError(error.errno, f"{archive}: {error.strerror} on {socket.gethostname()}: each node must see "
                          f"this, and {linked_to(archive)}, under the same path: mount it there") from error

    def read(self, sample: RawSample) -> bytes:
        """One `pread`.

        Raises:
            ValueError: the archive ends before the image does.
            OSError: the disk or the network fails. Both name archive and image.
        """
        place = _PLACE.fullmatch(sample.member)
        assert place is not None, sample.member
        size = int(place["size"])
        try:
            content = os.pread(self._fd, size, int(place["offset"]))
        except OSError as error:
            raise OSError(error.errno, f"{self.described(sample)}: {error.strerror} on {socket.gethostname()}; is the "
                          "disk, or the network's, still there?") from error
        if len(content) != size:
            raise ValueError(f"{self.described(sample)}: {len(content)} of {size} bytes: the archive was cut short "
                             "after it was listed; run the download stage again, which verifies it")
        return content

    def described(self, sample: RawSample) -> str:
        """Archive and image, for messages."""
        return f"{self.archive}: {sample.member} (synset/name@offset+bytes)"


def _scan_synset(fd: int, what: str, synset: str, start: int, end: int) -> list[Member]:
    members = [Member(synset, *member) for member in tar_members(fd, what, start, end)]
    file_name = re.compile(rf"{synset}_\d+\.JPEG")
    names: set[str] = set()
    for member in members:
        _require_image_size(what, member.name, member.size)
        right = file_name.fullmatch(member.name) is not None
        if not right or member.name in names:
            reason = "is there twice" if right else f"is not called like {synset}_1152.JPEG"
            raise ValueError(f"{what}: member {shown(member.name)} {reason}; {AGAIN}")
        names.add(member.name)
    return members


def tar_members(fd: int, what: str, start: int, end: int, again: str = AGAIN) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each file of the tar between two places of a file.

    Headers with more about a member may precede it: of type x (pax, which Python's tarfile writes for a time with a
    fraction or a name with other letters) and L (GNU's, for a long name). A header of type g is about the archive.
    again: what to do about an error.
    """
    place, previous = start, "its beginning"
    given: dict[str, str] = {}  # fields of the next member from such headers
    while True:
        header = _pread(fd, min(_BLOCK, end - place), place, what)
        if len(header) == _BLOCK and not any(header):
            return
        if len(header) < _BLOCK:
            raise ValueError(f"{what}: cut short after {previous}, at byte {place:,}, where a tar has empty blocks; "
                             f"{again}")
        info = _read_header(header, what, place, previous, again)
        name = given.get("path", info.name).removeprefix("./")
        size = _size(given.get("size", info.size), what, info, again)
        begins = place + _BLOCK
        if begins + size > end:
            raise ValueError(f"{what}: cut short in member {shown(name)}, which has {size:,} bytes from byte "
                             f"{begins:,} on, of {end:,}; {again}")
        if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
            given |= _about_next(fd, begins, size, info, what, again)
        else:
            if info.isreg() and not any(key.startswith("GNU.sparse") for key in given):
                yield name, begins, size
            elif not info.isdir():
                raise ValueError(f"{what}: member {shown(name)} is no plain file; {again}")
            given = {}
        place = begins + -(-size // _BLOCK) * _BLOCK
        previous = f"member {shown(name)}"


def _about_next(fd: int, begins: int, size: int, info: tarfile.TarInfo, what: str, again: str) -> dict[str, str]:
    """Fields that a header gives for the member after it: `path`, `size`, ..., as pax calls them."""
    if size > _MOST_OF_HEADER:
        raise ValueError(f"{what}: the header at byte {begins:,} has {size:,} bytes, more than the {_MOST_OF_HEADER:,} "
                         f"that one can have; {again}")
    content = _pread(fd, size, begins, what)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    records: dict[str, str] = {}
    while content:
        length = int(digits) if (digits := content.partition(b" ")[0]).isdigit() else 0
        key, equals, value = content[len(digits) + 1:length - 1].decode("utf-8", "surrogateescape").partition("=")
        if not (equals and length <= len(content) and content[length - 1:length] == b"\n"):
            raise ValueError(f"{what}: the pax header at byte {begins:,} is damaged; {again}")
        records[key], content = value, content[length:]
    if info.type == tarfile.XHDTYPE:
        return records
    if {"path", "size"} & records.keys():
        raise ValueError(f"{what}: the pax header at byte {begins:,} gives all members one name or size; {again}")
    return {}


def _size(given: str | int, what: str, info: tarfile.TarInfo, again: str) -> int:
    """Number of bytes that follow a member's header, by this header or by one before it."""
    if info.isdir():
        return 0
    size = int(given) if isinstance(given, int) or (given.isascii() and given.isdigit() and len(given) < 20) else -1
    if size < 0:
        raise ValueError(f"{what}: member {shown(info.name)} says that it has {shown(given)} bytes; {again}")
    return size


def _pread(fd: int, size: int, place: int, what: str) -> bytes:
    try:
        return os.pread(fd, size, place)
    except OSError as error:
        raise OSError(error.errno, f"{what}: byte {place:,}: {error.strerror} on {socket.gethostname()}; is the disk, "
                      "or the network's, still there?") from error


def _read_header(header: bytes, what: str, place: int, previous: str, again: str) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise ValueError(f"{what}: no header of a tar's member at byte {place:,}, after {previous} ({said(error)}); "
                         f"{again}") from error
