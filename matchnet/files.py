"""Writing files so that a reader sees the old one or the new one, never half of one; after a power cut as well."""

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
    """With those above it that are missing; each is synced into the one that holds it."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def rename(file: Path, target: Path) -> None:
    """In the place of what had that name; synced into the folder. The file itself has to be synced before."""
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
    """A second name for a file, which takes no room: what is written under one is then seen under both.

    Copied where that cannot be: to another disk, on a file system without hard links, or of a file that is not ours.
    """
    origin = origin.resolve()  # else it would be a name of the link
    try:
        os.link(origin, target)
    except OSError:
        with atomic_write(target, "wb") as file, open(origin, "rb") as source:
            shutil.copyfileobj(source, file)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
