"""Storage that all nodes see: a path (NFS), or an address (`s3://bucket/matchnet`, `gs://...`, `file:///...`).

Both go through pyarrow's file systems, which Ray Train uses for its `storage_path`: pip's pyarrow has S3 and Google
Cloud Storage built in, so neither needs a package more.
"""

import posixpath
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from matchnet.files import FULL_DISK
from matchnet.messages import said, without_credentials

Result = TypeVar("Result")

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 1.0  # doubled after each failed attempt
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or ~/.aws, or the machine's role), and AWS_DEFAULT_REGION or "
          "`?region=` in the address",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS (or `gcloud auth application-default login`, or the machine's account)"}


class StorageError(ValueError):
    """Shared storage could not be read or written; the text says where, what happened, and what to do."""


@dataclass(frozen=True)
class Location:
    """A file or folder on shared storage; `address` is how a user writes it, `path` what its file system calls it.

    An address may have credentials (`s3://key:secret@bucket`); as text, for messages, a location has none.
    """

    address: str
    filesystem: FileSystem
    path: str

    def __str__(self) -> str:
        return without_credentials(self.address)

    def __truediv__(self, name: str) -> "Location":
        head, mark, options = self.address.partition("?") if "://" in self.address else (self.address, "", "")
        return Location(f"{head.rstrip('/')}/{name}{mark}{options}", self.filesystem, posixpath.join(self.path, name))

    def read(self) -> bytes:
        """The bytes of a file; StorageError if it is not there or cannot be read."""
        return patiently(self.address, lambda: _read_all(self))

    def size(self) -> int | None:
        """Bytes of a file; None where there is none."""
        info = patiently(self.address, lambda: self.filesystem.get_file_info(self.path))
        return info.size if info.type == FileType.File else None

    def files(self) -> list[str]:
        """Names of all files below this folder, relative to it; none if there is no such folder."""
        selector = FileSelector(self.path, allow_not_found=True, recursive=True)
        found = patiently(self.address, lambda: self.filesystem.get_file_info(selector))
        return sorted(posixpath.relpath(info.path, self.path) for info in found if info.type == FileType.File)


def location_of(address: str | Path) -> Location:
    """The location of an address, or of a path on this machine.

    Raises:
        StorageError: a kind of storage that pyarrow does not know, or whose bucket and credentials it cannot find.
    """
    address = str(address)
    if "://" not in address:
        path = str(Path(address).absolute())
        return Location(path, LocalFileSystem(), path)
    try:
        filesystem, path = FileSystem.from_uri(address)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, ImportError) as error:
        raise StorageError(f"{without_credentials(address)}: {said(error)}; write a path that all nodes see, or "
                           "s3://bucket/folder, gs://bucket/folder") from error
    except OSError as error:
        raise StorageError(f"{without_credentials(address)}: {said(error)}; {_remedy(address)}") from error
    return Location(address, filesystem, path)


def patiently(address: str, attempt: Callable[[], Result]) -> Result:
    """The result of `attempt`; tried again, after pauses that grow, when storage fails.

    Raises:
        StorageError: the file is not there, or all attempts failed.
        OSError: this machine's disk is full.
    """
    shown = without_credentials(address)
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except FileNotFoundError as error:
            raise StorageError(f"{shown}: no such file; does this node see it, and is it finished?") from error
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            if number == ATTEMPTS:
                raise StorageError(f"{shown}: gave up after {ATTEMPTS} attempts: {said(error)}; "
                                   f"{_remedy(address)}") from error
            pause = FIRST_PAUSE_SECONDS * 2 ** (number - 1)
            print(f"{shown}: {said(error)}; next attempt in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _read_all(location: Location) -> bytes:
    with location.filesystem.open_input_stream(location.path) as stream:
        return stream.read()


def _remedy(address: str) -> str:
    keys = CREDENTIALS.get(address.partition("://")[0])
    return f"check the address, the network and, on every node, {keys}" if keys else (
        "check that this node sees it and may read and write there; the same command goes on from here")
