"""What a disk holds after a power cut: no more than was synced, kept by watching every fsync of a process.

A file is as it was at its last fsync, empty without one; a folder has the names that it had at its last fsync. Real
file systems keep more than that; none promises to.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_fsync = os.fsync


def watch(record: Path, disk: Path | None = None) -> None:
    """From now on, keep in `record` what each fsync of this process makes last; several processes may share one.

    Args:
        disk: a folder: fsyncs elsewhere are not kept. `record` has to be on the same file system.
    """
    record.mkdir(parents=True, exist_ok=True)

    def fsync(fd: int) -> None:
        _fsync(fd)
        if disk is None or Path(os.readlink(f"/proc/self/fd/{fd}")).is_relative_to(disk):
            _keep(record, Path(f"/proc/self/fd/{fd}"), os.fstat(fd).st_ino)

    os.fsync = fsync


def _keep(record: Path, opened: Path, inode: int) -> None:
    new = record / f".{inode}.{os.getpid()}"
    if opened.is_dir():
        names = {entry.name: entry.inode() for entry in os.scandir(opened)}
        new.write_text(json.dumps(names), encoding="utf-8")
        os.replace(new, record / f"{inode}.names")
        return
    shutil.copyfile(opened, new)
    os.replace(new, record / f"{inode}.bytes")
    pin = record / f"{inode}.pin"  # a second name: the inode's number is then given to no other file
    if not pin.exists():
        os.link(opened.resolve(), pin)


@contextmanager
def watched(record: Path) -> Iterator[None]:
    """`watch` for the length of a block."""
    watch(record)
    try:
        yield
    finally:
        os.fsync = _fsync


def cut_power(record: Path, *folders: Path) -> None:
    """Put each folder back to what of it was synced; the folders themselves are there."""
    for folder in folders:
        left = folder.with_name(f"{folder.name}.after")
        _restore(folder.stat().st_ino, left, record)
        shutil.rmtree(folder)
        left.rename(folder)
    shutil.rmtree(record)  # inodes are others now
    for folder in folders:
        record_all(folder, record)


def _restore(inode: int, target: Path, record: Path) -> None:
    names = record / f"{inode}.names"
    target.mkdir()
    for name, below in (json.loads(names.read_text(encoding="utf-8")) if names.exists() else {}).items():
        if (record / f"{below}.bytes").exists():
            shutil.copyfile(record / f"{below}.bytes", target / name)
        elif (record / f"{below}.names").exists():
            _restore(below, target / name, record)
        else:
            (target / name).touch()


def record_all(folder: Path, record: Path) -> None:
    """What is in the folder now is there for good."""
    record.mkdir(parents=True, exist_ok=True)
    for path in (folder, *folder.rglob("*")):
        _keep(record, path, path.stat().st_ino)
