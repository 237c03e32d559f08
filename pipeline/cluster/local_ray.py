"""A Ray on this machine alone, for the length of a block: nothing but this machine reaches it, and nothing is left."""

import fcntl
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from unittest.mock import patch

import pipeline.cluster.ray_environment  # noqa: F401  # isort: skip

import psutil
import ray
from ray._private import ray_constants

from pipeline.system.environment import variables
from pipeline.system.progress import say

OBJECT_STORE_BYTES = 80 * 2**20  # near Ray's least: nothing large goes through it
LONGEST_TEMPORARY_FOLDER = 26  # characters: the paths of Ray's sockets begin with it, and may have 107
END_SECONDS = 10
LOCK = "driver"  # a file in the folder of a Ray; its driver holds an flock on it as long as it lives


@contextmanager
def local_ray(num_cpus: int) -> Iterator[None]:
    """Start Ray with `num_cpus` CPUs; what a killed driver has left of an earlier Ray is removed first."""
    with _own_folder():
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # it logs the token each time
        try:
            # All of Ray then has the address 127.0.0.1, and listens there alone; Ray's own choice on Windows and macOS
            with sigterm_kept(), patch.object(ray_constants, "ENABLE_RAY_CLUSTER", False):
                ray.init(address="local", num_cpus=num_cpus, include_dashboard=False,
                         object_store_memory=OBJECT_STORE_BYTES, log_to_driver=False, logging_level=logging.WARNING)
            yield
        finally:
            ray.shutdown()  # also one that Ctrl-C has stopped half-way


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Give SIGTERM back after the block: Ray takes it over when it is started, and answers it with a C++ stack."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextmanager
def _own_folder() -> Iterator[None]:
    """Ray's sessions, and temporary files of all processes that it starts, lie in a folder that goes with the block."""
    if "RAY_TMPDIR" in os.environ:
        yield
        return
    default = tempfile.gettempdir()
    parent = Path(default if len(default) <= LONGEST_TEMPORARY_FOLDER else "/tmp")
    remove_left_behind(parent)
    folder = Path(tempfile.mkdtemp(prefix="ray", dir=parent))
    try:
        with _locked(folder), variables({"RAY_TMPDIR": str(folder), "TMPDIR": str(folder)}):
            yield
    finally:
        _remove(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a Ray's folder while the block lasts; the lock file appears only once it is held."""
    with open(folder / f"{LOCK}.new", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.replace(folder / f"{LOCK}.new", folder / LOCK)
        yield


def remove_left_behind(parent: Path) -> None:
    """Remove the folders of Rays whose driver was killed, and end what still runs of them."""
    for lock in sorted(parent.glob(f"ray*/{LOCK}")):
        try:
            with open(lock, "r+b") as file:
                if _is_held(file):
                    continue
        except OSError:  # another user's, or just removed
            continue
        for process in _processes_of(lock.parent):
            process.kill()
        _remove(lock.parent)
        say(f"{lock.parent}: removed; a run that was killed had left it")


def _is_held(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _processes_of(folder: Path) -> list[psutil.Process]:
    """This user's processes that write their log there: Ray's agents hide their command lines and environments."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(Path(file.path).is_relative_to(folder) for file in process.open_files()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _remove(folder: Path) -> None:
    """Remove a folder, although workers that are still ending may write a last line into it."""
    deadline = time.monotonic() + END_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)
