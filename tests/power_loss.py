"""What a disk holds after a power cut: no more than was synced, kept by watching every fsync of a process.

A file is as it was at its last fsync, empty without one; a folder has the names that it had at its last fsync. Real
file systems keep more than that; none promises to.
"""

import fcntl
import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GENERATION = 0x80087601  # FS_IOC_GETVERSION: of two folders that got the same inode number one after the other
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
            _keep(record, Path(f"/proc/self/fd/{fd}"))

    os.fsync = fsync


def _keep(record: Path, opened: Path) -> None:
    identity = _identity(opened)
    new = record / f".{identity}.{os.getpid()}"
    if opened.is_dir():
        names = {}
        for entry in os.scandir(opened):
            with suppress(FileNotFoundError):  # removed just now
                if not entry.is_symlink():
                    names[entry.name] = _identity(opened / entry.name), entry.is_dir()
        new.write_text(json.dumps(names), encoding="utf-8")
        os.replace(new, record / f"{identity}.names")
        return
    shutil.copyfile(opened, new)
    os.replace(new, record / f"{identity}.bytes")
    pin = record / f"{identity}.pin"  # a second name: the inode's number is then given to no other file
    if not pin.exists():
        os.link(opened.resolve(), pin)


def _identity(path: Path) -> str:
    """Whatever its name is. A folder has no second name that could keep its inode's number from being given again."""
    inode = str(path.stat().st_ino)
    if not path.is_dir():
        return inode
    fd = os.open(path, os.O_RDONLY)
    try:
        return f"{inode}-{struct.unpack('l', fcntl.ioctl(fd, GENERATION, bytes(8)))[0]}"
    except OSError:  # a file system in memory, which gives no number twice
        return inode
    finally:
        os.close(fd)


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
        _restore(_identity(folder), left, record)
        shutil.rmtree(folder)
        left.rename(folder)
    shutil.rmtree(record)  # inodes are others now
    for folder in folders:
        record_all(folder, record)


def _restore(identity: str, target: Path, record: Path) -> None:
    names = record / f"{identity}.names"
    target.mkdir()
    for name, (below, is_folder) in (json.loads(names.read_text(encoding="utf-8")) if names.exists() else {}).items():
        if is_folder:
            _restore(below, target / name, record)
        elif (record / f"{below}.bytes").exists():
            shutil.copyfile(record / f"{below}.bytes", target / name)
        else:
            (target / name).touch()


def record_all(folder: Path, record: Path) -> None:
    """What is in the folder now is there for good."""
    record.mkdir(parents=True, exist_ok=True)
    for path in (folder, *folder.rglob("*")):
        _keep(record, path)
