"""A folder that is replaced as a whole: built beside the old one, swapped in at the end."""

import os
import shutil
from pathlib import Path


def building_place(out: Path) -> Path:
    """Where the next version of `out` is built, `<out>.new`; what an interrupted run left there stays.

    Puts an old version back that an interruption between the two renames of `swap_in` has left aside.
    """
    old = _beside(out, ".old")
    if old.exists() and not out.exists():
        os.replace(old, out)
    shutil.rmtree(old, ignore_errors=True)
    new = _beside(out, ".new")
    new.mkdir(parents=True, exist_ok=True)
    return new


def swap_in(new: Path, out: Path) -> None:
    """`new` becomes `out`; the old version is there until then, and is put back if that fails."""
    old = _beside(out, ".old")
    sync(new)
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(new, out)
    except OSError:
        if old.exists():
            os.replace(old, out)
        raise
    sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(directory: Path) -> None:
    """fsync the directory itself, so that its names survive a power cut."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
