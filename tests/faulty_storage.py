"""A folder that plays a storage far away: slow, failing, or cut off, as a test wants it."""

import io
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import fsspec.implementations.local
import pytest
from pyarrow.fs import FSSpecHandler, PyFileSystem

from pipeline.data.nodes import cache, upload
from pipeline.system import storage
from pipeline.system.storage import Location

SCHEME = "far://"


@dataclass
class Faults:
    """log: every file that is opened to be read, one a line, over all processes.

    failures: file name -> errors of the next times that it is opened.
    cut: after this many bytes of a file nothing more comes.
    seconds: that each block read takes.
    """

    log: Path
    failures: dict[str, list[OSError]] = field(default_factory=dict)
    cut: int | None = None
    seconds: float = 0.0

    def opened(self, ending: str = "") -> list[str]:
        names = self.log.read_text().splitlines() if self.log.exists() else []
        return [name for name in names if name.endswith(ending)]


class _File(io.FileIO):
    faults: Faults

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(self.faults.seconds)
        left = None if self.faults.cut is None else max(0, self.faults.cut - self.tell())
        size = -1 if size is None else size
        return super().read(size if left is None else left if size < 0 else min(size, left)) or b""


class _Storage(fsspec.implementations.local.LocalFileSystem):
    cachable = False

    def __init__(self, faults: Faults) -> None:
        super().__init__(auto_mkdir=True)
        self.faults = faults

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        name = Path(path).name
        if self.faults.failures.get(name):
            raise self.faults.failures[name].pop(0)
        if "w" in mode:
            return super().open(path, mode, **options)
        with open(self.faults.log, "a") as log:
            log.write(f"{name}\n")
        file = _File(path)
        file.faults = self.faults
        return file


def use_far_storage(root: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch,
                    modules: tuple[ModuleType, ...] = (cache, upload)) -> None:
    """In these modules `far://name` is a folder of `root`, with these faults, until the test ends."""
    def location_of(address: str | Path) -> Location:
        if not str(address).startswith(SCHEME):
            return storage.location_of(address)
        filesystem = PyFileSystem(FSSpecHandler(_Storage(faults)))
        return Location(str(address), filesystem, str(root / str(address).removeprefix(SCHEME)))

    for module in modules:
        monkeypatch.setattr(module, "location_of", location_of)
