"""A second name for a file; and, from matchnet.files, what writes one whole or not at all."""

import os
import shutil
from pathlib import Path

from matchnet.files import atomic_write, sha256_of

__all__ = ["atomic_write", "link_or_copy", "sha256_of"]


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
