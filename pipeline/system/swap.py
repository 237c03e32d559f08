"""A folder that is replaced as a whole: built beside the old one, swapped in at the end."""

import os
import shutil
import uuid
from pathlib import Path

from matchnet.files import make_folder, sync
from pipeline.system.progress import say


def building_folder(out: Path) -> Path:
    """Make the folder in which the next version of `out` is built, `<out>.new`; files of an interrupted run stay.

    If an interruption between the two renames of `swap_in` has left the old version aside, it is put back.
    """
    old = _beside(out, ".old")
    if old.exists() and not out.exists():
        os.replace(old, out)
    _remove_old(out)
    new = _beside(out, ".new")
    make_folder(new)
    return new


def swap_in(new: Path, out: Path) -> None:
    """Rename `new` to `out`. The old version stays in place until then, and is put back if renaming fails."""
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
    _remove_old(out)


def _remove_old(out: Path) -> None:
    """Remove old versions. Each gets a name of its own first, so that one that cannot be removed is in nobody's way."""
    old = _beside(out, ".old")
    if old.exists():
        os.replace(old, _beside(out, f".old-{uuid.uuid4().hex}"))
    for left in out.parent.glob(f"{out.name}.old-*"):
        shutil.rmtree(left, ignore_errors=True)
        if left.exists():
            say(f"{left}: an old version that cannot be removed: another process reads it, or it is not yours; the "
                "next run tries again, or remove it by hand to have its room")


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
