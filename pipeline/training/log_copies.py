"""The logs of a run at an address: an object store cannot append to a file, so copies lie beside each checkpoint.

Each worker writes its log on its node's disk. Lines that were written after the last checkpoint are lost with that
node; a run that goes on from the checkpoint writes those steps again.
"""

import fnmatch
import posixpath
import threading
from contextlib import AbstractContextManager
from pathlib import Path

from matchnet.files import atomic_write
from pipeline.system.storage import Location, StorageError
from pipeline.system.threads import thread_beside
from pipeline.training.checkpoint import files_of_checkpoints
from pipeline.training.run_log import LOG_FILE

SECONDS_BETWEEN_LISTINGS = 5.0  # a listing of an object store takes a tenth of a second, and costs


def log_folder(run: Location) -> Path | None:
    """The folder where every node appends to the logs of a run; None if the logs are copied instead."""
    return None if "://" in run.address else Path(run.path)


def following(run: Location, folder: Path) -> AbstractContextManager[None]:
    """While the block lasts, bring the newest copies of the logs of `run`, at an address, to `folder` now and then."""
    return thread_beside(_follow, run, folder)


def bring_logs(run: Location, folder: Path) -> None:
    """Write the newest copies of the logs of `run` to `folder`, unless that is where they are; nothing where none are.

    Raises:
        StorageError: the storage cannot be read.
    """
    source = newest_logs(run)
    if source is not None and source.path != str(folder):
        _copy(source, folder)


def _copy(source: Location, folder: Path) -> None:
    for name in fnmatch.filter(source.files(), "log*.jsonl"):
        with atomic_write(folder / name, "wb") as file:
            file.write((source / name).read())


def newest_logs(run: Location) -> Location | None:
    """The folder where logs are appended, or the newest checkpoint with copies of the logs; None without one."""
    if log_folder(run) is not None:
        return run
    newest = max(files_of_checkpoints(run, LOG_FILE), default=None)
    return run / posixpath.dirname(newest) if newest else None


def _follow(run: Location, folder: Path, stop: threading.Event) -> None:
    brought = None
    while log_folder(run) is None and not stop.wait(SECONDS_BETWEEN_LISTINGS):
        try:
            newest = newest_logs(run)
            if newest is not None and newest.path != brought:
                _copy(newest, folder)
                brought = newest.path
        except StorageError:  # logs only show progress here: the next look may succeed
            continue
