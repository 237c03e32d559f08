"""Somebody's own pictures: found in a folder, a zip or a tar, and told from other files. At no time is more than one
picture in memory."""

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from matchnet.messages import said, shown
from matchnet.pictures import FORMATS, format_of
from pipeline.data.raw.readers.imagenet_tars import tar_members
from pipeline.data.raw.zip_files import why_unreadable

MOST_BYTES = 1 << 28  # bytes of a picture's file, at most
OTHER_FILES = "files that are no pictures"
EXTENSIONS = {"jpg", "jpeg", "jpe", "png", "webp", "bmp", "tif", "tiff", "gif"}  # extensions that promise a picture
NOWHERE = -1  # the offset of a picture that is a file of its own, or in a zip
_BLOCK = 1 << 20
_PASSED_OVER = {"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir"}  # files that systems leave behind, beside .DS_Store
_CONTAINERS = "a folder, a zip or a tar that is not compressed"


class StoredFile(NamedTuple):
    """A file in a folder or an archive.

    container: the archive it is in, relative to the origin; "" where the origin is that archive, or a folder of files.
    member: its path in there. offset: of its bytes in a tar, else -1.
    """

    container: str
    member: str
    offset: int
    size: int
    open: Callable[[], IO[bytes]]


def files_of(origin: Path) -> Iterator[StoredFile]:
    """The files of a folder, a zip or a tar, in an order of its own; hidden ones are passed over.

    Raises:
        ValueError: not one of these; a damaged archive; a link that leads nowhere, or back; a device.
    """
    if origin.is_dir():
        yield from _files_of_folder(origin)
        return
    try:
        with open(origin, "rb") as file:
            head = file.read(512)
    except FileNotFoundError as error:
        raise ValueError(f"{origin}: no such file or folder; name {_CONTAINERS} as `path`") from error
    if zipfile.is_zipfile(origin):
        yield from _files_of_zip(origin)
    elif head[257:262] == b"ustar" or origin.suffix == ".tar":
        yield from files_of_tar(origin, "")
    else:
        raise ValueError(f"{origin}: it begins with {head[:12]!r}, and {_CONTAINERS} is wanted; unpack it")


def files_of_tar(path: Path, container: str) -> Iterator[StoredFile]:
    """The files of a tar, of any writer."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for member, offset, length in tar_members(file.fileno(), str(path), 0, size, "make the tar again"):
            if not _is_hidden(member):
                yield StoredFile(container, member, offset, length, partial(_open_part, path, offset, length))


class _Part(io.RawIOBase):
    """The bytes of a tar's member, read where they lie, so that a large member takes no memory."""

    def __init__(self, path: Path, offset: int, length: int) -> None:
        self._file = open(path, "rb", buffering=0)
        self._file.seek(offset)
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._file.readinto(memoryview(buffer)[:self._left])
        self._left -= size
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_part(path: Path, offset: int, length: int) -> IO[bytes]:
    return io.BufferedReader(_Part(path, offset, length))


def read_part(path: Path, offset: int, length: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), length, offset)


def _files_of_folder(origin: Path, within: str = "", above: tuple[tuple[int, int], ...] = ()) -> Iterator[StoredFile]:
    folder = origin / within
    status = folder.stat()
    here = status.st_dev, status.st_ino
    if here in above:
        raise ValueError(f"{folder}: this link leads back to a folder that it is in; remove it")
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if _is_hidden(entry.name):
            continue
        member = f"{within}/{entry.name}" if within else entry.name
        try:
            mode = entry.stat().st_mode
        except FileNotFoundError as error:
            raise ValueError(f"{origin / member}: a link to a file that is not there; remove it") from error
        if stat.S_ISDIR(mode):
            yield from _files_of_folder(origin, member, (*above, here))
        elif stat.S_ISREG(mode):
            yield StoredFile("", member, NOWHERE, entry.stat().st_size, partial(_open_file, origin / member))
        else:
            raise ValueError(f"{origin / member}: neither a file nor a folder; remove it")


def _open_file(path: Path) -> IO[bytes]:
    return open(path, "rb")


def _files_of_zip(origin: Path) -> Iterator[StoredFile]:
    seen: set[str] = set()
    with open_zip(origin) as opened:
        for info in opened.infolist():
            if info.filename.endswith("/") or _is_hidden(info.filename):
                continue
            if info.filename in seen:
                raise ValueError(f"{origin}: member {shown(info.filename)} is there twice; make the zip again")
            if reason := why_unreadable(info):
                raise ValueError(f"{origin}: member {shown(info.filename)}: {reason}; unpack the zip and name the "
                                 "folder, or make the zip again")
            seen.add(info.filename)
            yield StoredFile("", info.filename, NOWHERE, info.file_size, partial(opened.open, info))


def open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError:
        raise
    except Exception as error:  # zipfile raises errors of many kinds for damaged bytes
        raise ValueError(f"{path}: not a whole zip ({said(error)}); make it again") from error


def _is_hidden(path: str) -> bool:
    return any(part in _PASSED_OVER or (part.startswith(".") and part not in (".", "..")) for part in path.split("/"))


def picture_of(file: StoredFile, origin: Path) -> str | None:
    """SHA-256 of a file that is a picture; None of another.

    Raises:
        ValueError: a file whose name promises a picture and whose bytes are none, or that cannot be read.
    """
    place = described(origin, file.container, file.member)
    try:
        with closing(file.open()) as opened:
            head = opened.read(16)
            if format_of(head) is None:
                if file.member.rpartition(".")[2].lower() not in EXTENSIONS:
                    return None
                begins = f"begins with {head[:12]!r}" if head else "has 0 bytes"
                raise ValueError(f"{place}: called like a picture, but it {begins}, and no picture does "
                                 f"({', '.join(FORMATS)}); save it again, or take it out")
            if file.size > MOST_BYTES:
                raise ValueError(f"{place}: {file.size:,} bytes, and a picture has at most {MOST_BYTES:,}; take it out")
            digest, size = hashlib.sha256(head), len(head)
            while block := opened.read(_BLOCK):
                digest.update(block)
                size += len(block)
                if size > file.size:
                    break
    except (ValueError, OSError) as error:
        if (isinstance(error, OSError) and error.errno is None) or not str(error).startswith(place):
            raise ValueError(f"{place}: {said(error)}; take it out, or make the archive again") from error
        raise
    except Exception as error:  # errors of zipfile and of its decompressors
        raise ValueError(f"{place}: {said(error)}; take it out, or make the archive again") from error
    if size != file.size:
        raise ValueError(f"{place}: {size:,} bytes or more, not the {file.size:,} that were announced; take it out, or "
                         "make the archive again")
    return digest.hexdigest()


def described(origin: Path, container: str, member: str) -> str:
    """Archive and member, or the file, for messages."""
    return f"{origin / container}: {shown(member)}" if container or not origin.is_dir() else str(origin / member)
