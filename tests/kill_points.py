"""Kill a process while it writes: at one of its fsyncs or renames, which is when a kill or a power cut can do harm.

Each call has three moments: HALF (of the file, half the bytes are there; a rename has none), BEFORE and AFTER it.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

HALF, BEFORE, AFTER = range(3)
STATE = "state.pt"  # of a checkpoint


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


def watch(reached: Callable[[str, int], bool]) -> None:
    """From now on, die where `reached` says so of a path that is synced or renamed to, and a moment."""
    really_fsync, really_replace = os.fsync, os.replace

    def fsync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        if not os.path.isdir(path) and reached(path, HALF):
            os.truncate(path, os.stat(path).st_size // 2)  # it may be open to be read alone
            die()
        if reached(path, BEFORE):
            die()
        really_fsync(fd)
        if reached(path, AFTER):
            die()

    def replace(source: str | os.PathLike, target: str | os.PathLike) -> None:
        if reached(os.fspath(target), BEFORE):
            die()
        really_replace(source, target)
        if reached(os.fspath(target), AFTER):
            die()

    os.fsync, os.replace = fsync, replace  # type: ignore[assignment]


def die_at(number: int | None, counted: Path) -> None:
    """Die at that moment of all that come; None to live. `counted` gets how many there have been."""
    seen = 0

    def reached(path: str, moment: int) -> bool:
        nonlocal seen
        seen += 1
        if number is None:
            counted.write_text(str(seen))
        return seen - 1 == number

    watch(reached)


def die_in_a_checkpoint(armed: Path) -> None:
    """Once there is a file `armed`, die at the moment whose number it holds, in the writing of the next checkpoint."""
    def reached(path: str, moment: int) -> bool:
        folder, name = os.path.split(path)
        of_bytes = name.startswith(f".{STATE}.") and moment in (HALF, BEFORE)  # not yet renamed
        if not (of_bytes or (name == STATE and moment == AFTER)) or not os.path.basename(folder).startswith("step"):
            return False
        try:
            if armed.read_text() != str(moment):
                return False
            armed.unlink()  # of two processes, one gets it
        except FileNotFoundError:
            return False
        return True

    watch(reached)
