"""Temporary files of `matchnet.files.atomic_write` whose process was killed before it could remove them."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import psutil

_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d{1,9})\.tmp")


def remove_unfinished(files: Iterable[Path]) -> None:
    """Remove those of `files` that are temporary and whose process has ended; to be called before this one writes.

    In a container a new process often has the number of the killed one, so files with this process's own number go too.
    """
    for path in files:
        found = _TEMPORARY.fullmatch(path.name)
        if found and (int(found["pid"]) == os.getpid() or not psutil.pid_exists(int(found["pid"]))):
            path.unlink(missing_ok=True)
