"""miniImageNet's photographs as people have them, a tar (plain, gz, xz), a zip or a folder, packed into one plain tar.

`n0153282900000005.jpg` is a photograph of synset n01532829. Folders say nothing: many copies have train, val and test,
which divide classes in some copies and images in others. The tar is sorted by name, so the same photographs give the
same bytes whatever form they came in.
"""

import bz2
import gzip
import lzma
import os
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from matchnet.files import atomic_write
from matchnet.messages import said, shown
from pipeline.data.formats.tar import TarWriter
from pipeline.data.raw.fetch_file import naming
from pipeline.data.raw.zip_files import why_unreadable
from pipeline.system.progress import Progress

PHOTOGRAPHS = "photographs.tar"
NAME = re.compile(r"(n\d{8})\d+\.jpg")
NO_PICKLES = ("a pickle is refused: loading one runs whatever code is in it, and its pixels have no file names to "
              "check; take the JPEGs (n0153282900000005.jpg, ...), as a tar, a zip or a folder")
_IMAGES, _PICKLES = (".jpg", ".jpeg", ".png"), (".pkl", ".pickle")
_MOST_BYTES = 4 << 20  # bytes of one photograph: some 3,000 times those of most
_MOST_OF_HEADERS = 1 << 16  # bytes of the headers that precede a member's own
_COMPRESSED: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open}
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile,
           RuntimeError, NotImplementedError)  # the last two: headers inside one another, or a zip of a rare kind
_ABOUT_NEXT = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
               tarfile.GNUTYPE_LONGLINK)
UNPACK = "take another copy, or unpack it and name the folder"

Wanted = Callable[[str, int], bool]  # takes a member's path and size


def pack_photographs(origin: Path, target: Path) -> None:
    """Write the photographs of `origin` to the tar `target`, atomically; the origin is read once, from front to back.

    Raises:
        ValueError: a pickle, an archive that is damaged or of no known form, no photograph, the same photograph twice,
            or an image with another kind of name.
        OSError: the disk is full, ...
    """
    places: dict[str, tuple[int, int]] = {}
    pickles: list[str] = []

    def is_wanted(path: str, size: int) -> bool:
        return _is_photograph(origin, path, size, places, pickles)

    target.parent.mkdir(parents=True, exist_ok=True)
    with (atomic_write(target, "wb") as file, naming(target.parent),
          tempfile.TemporaryFile(dir=target.parent) as spool):
        for path, content in _read_members(origin, is_wanted):
            places[PurePosixPath(path).name] = spool.tell(), len(content)
            spool.write(content)
        if not places:
            raise ValueError(f"{origin}: {pickles[0]}: {NO_PICKLES}" if pickles else
                             f"{origin}: no photograph of miniImageNet in it; they are called n0153282900000005.jpg, a "
                             "synset and a number")
        spool.flush()
        tar = TarWriter(file)
        for name in sorted(places):
            offset, size = places[name]
            tar.add(name, os.pread(spool.fileno(), size, offset))
        tar.finish()


def _is_photograph(origin: Path, path: str, size: int, found: dict[str, tuple[int, int]], pickles: list[str]) -> bool:
    """False for lists, notes and hidden files. Pickles are noted; an image of another name is an error."""
    name = PurePosixPath(path).name
    suffix = PurePosixPath(name).suffix.lower()
    if name.startswith(".") or suffix not in _IMAGES:
        pickles += [path] if suffix in _PICKLES else []
        return False
    reason = ""
    if NAME.fullmatch(name) is None:
        reason = "is not called like n0153282900000005.jpg, a synset and a number; leave out what is not miniImageNet's"
    elif name in found:
        reason = "is there twice, in two folders; name a folder that has each photograph once"
    elif size > _MOST_BYTES:
        reason = f"has {size:,} bytes, more than any photograph of miniImageNet; take another copy"
    if reason:
        raise ValueError(f"{origin}: {path} {reason}")
    return True


def _read_members(origin: Path, is_wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of each wanted file of a tar, a zip or a folder."""
    with naming(origin):
        if origin.is_dir():
            yield from _read_folder(origin, is_wanted)
        else:
            yield from _read_archive(origin, is_wanted)


def _read_archive(origin: Path, is_wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    with open(origin, "rb") as file:
        head = file.read(8)
    if origin.suffix.lower() in _PICKLES or (head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")):
        raise ValueError(f"{origin}: {NO_PICKLES}")
    try:
        yield from (_read_zip if head[:2] == b"PK" else _read_tar)(origin, is_wanted)
    except _DAMAGE as error:
        raise ValueError(f"{origin}: not a whole tar (plain, gz, xz) or zip ({said(error)}); {UNPACK}") from error


def _read_folder(origin: Path, is_wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    paths = sorted(path for path in origin.rglob("*") if path.is_file())
    with Progress(f"reading {origin.name}", len(paths), "files") as progress:
        for path in paths:
            if is_wanted(str(path.relative_to(origin)), path.stat().st_size):
                yield str(path.relative_to(origin)), path.read_bytes()
            progress.advance()


def _read_zip(origin: Path, is_wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(origin) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        with Progress(f"reading {origin.name}", len(members), "files") as progress:
            for member in members:
                if is_wanted(member.filename, member.file_size):
                    if reason := why_unreadable(member):
                        raise ValueError(f"{origin}: member {shown(member.filename)}: {reason}; {UNPACK}")
                    with archive.open(member) as file:
                        yield member.filename, file.read(member.file_size + 1)  # without a number: all that comes
                progress.advance()


class _BoundedInfo(tarfile.TarInfo):
    """A member's header; tarfile reads the headers that precede it whole, whatever they unpack to."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        """tarfile's own place to treat kinds of members otherwise."""
        if self.type == tarfile.GNUTYPE_SPARSE:  # a list of any length follows
            raise tarfile.ReadError(f"{shown(self.name)} is a sparse file")
        if self.type in _ABOUT_NEXT:
            size = self.size + sum(len(key) + len(value) for key, value in tar.pax_headers.items())
            if size > _MOST_OF_HEADERS:
                raise tarfile.ReadError(f"headers of {size:,} bytes, more than {_MOST_OF_HEADERS:,}")
        return super()._proc_member(tar)  # type: ignore[misc]

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError(f"{shown(self.name)} is a sparse file")


def _read_tar(origin: Path, is_wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """Read a tar as a stream: in a compressed tar, each step back would decompress it from its beginning."""
    with (open(origin, "rb") as file, _decompressed(file) as stream,
          tarfile.open(fileobj=stream, mode="r|", tarinfo=_BoundedInfo) as tar,
          Progress(f"reading {origin.name}", origin.stat().st_size, "B") as progress):
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # else it keeps all headers
            if member.isreg() and is_wanted(member.name, member.size):
                content = tar.extractfile(member)
                assert content is not None
                yield member.name, content.read()
            progress.advance(file.tell() - progress.done)


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    head = file.read(8)
    file.seek(0)
    return next((kind(file) for magic, kind in _COMPRESSED.items() if head.startswith(magic)), file)
