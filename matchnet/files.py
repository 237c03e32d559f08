"""Atomic writing: a reader sees the old file or the new one, never half a file, even after a power cut."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)  # trying again does not help


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO]:
    """Open a temporary file beside `path`; on success sync and rename it to `path`, on failure remove it.

    When the block has ended, the file outlives a power cut, and so do its name and new folders above it.

    Raises:
        OSError: whatever writing raised (a full disk, ...); `path` is then as it was.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except OSError as error:
        if error.errno not in FULL_DISK or error.filename is not None:
            raise
        raise OSError(error.errno, f"{path}: {os.strerror(error.errno)} while it was written, and nothing was "
                      f"replaced; free some space on the disk of {path.parent}, and run the same command again"
                      ) from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and the missing folders above it; each is synced into its parent."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def rename(file: Path, target: Path) -> None:
    """Rename a file, replacing any file of that name, and sync the folder. The caller has synced the file before."""
    os.replace(file, target)
    sync(target.parent)


def sync(folder: Path) -> None:
    """fsync the folder itself, so that its names survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def link_or_copy(origin: Path, target: Path) -> None:
    """Give a file a second name (a hard link), which takes no room: both names show the same bytes.

    Copies the file where a link is impossible: to another disk, on a file system without hard links, or from a file
    that another user owns.
    """
    origin = origin.resolve()  # otherwise the new name would be a name of the symbolic link
    try:
        os.link(origin, target)
    except OSError:
        with atomic_write(target, "wb") as file, open(origin, "rb") as source:
            shutil.copyfileobj(source, file)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
