"""The log of a run at an address: nothing can be appended to on an object store, so a copy lies beside each checkpoint.

Rank 0 writes the log on its node's disk. Lines that were written after the last checkpoint are lost with that node; a
run that goes on from the checkpoint writes those steps again.
"""

import fnmatch
import threading
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.files import atomic_write
from pipeline.storage import Place, StorageError
from pipeline.threads import thread_beside
from pipeline.training.run_log import LOG_FILE

SECONDS_BETWEEN_LISTINGS = 5.0  # a listing of an object store takes a tenth of a second, and costs


def log_folder(run: Place) -> Path | None:
    """The folder that the log of a run is appended to, by whichever node; None where it is copied instead."""
    return None if "://" in run.address else Path(run.path)


def following(run: Place, folder: Path) -> AbstractContextManager[None]:
    """While the block lasts, bring the newest copy of the log of `run` to `folder` now and then."""
    return thread_beside(_follow, run, folder)


def bring_log(run: Place, folder: Path) -> None:
    """Write the newest copy of the log of `run` to `folder`; nothing where there is none, or where it is appended to.

    Raises:
        StorageError: the storage cannot be read.
    """
    if log_folder(run) is not None:
        return
    newest = max(fnmatch.filter(run.files(), f"step*/{LOG_FILE}"), default=None)
    if newest is not None:
        with atomic_write(folder / LOG_FILE, "wb") as file:
            file.write((run / newest).read())


def _follow(run: Place, folder: Path, stop: threading.Event) -> None:
    while not stop.wait(SECONDS_BETWEEN_LISTINGS):
        try:
            bring_log(run, folder)
        except StorageError:  # it is for showing progress: the next look may succeed
            continue
