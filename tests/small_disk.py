"""A file system of its own, which a test can fill."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk_of(size: str, disk: Path) -> Iterator[Path]:
    """Mount one of this size, such as 256k, at `disk`; skip the test where this user may not."""
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk],
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip("a file system of its own, which it can fill, takes the right to mount one")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
