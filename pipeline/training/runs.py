"""Folders of unfinished training runs, from which an interrupted run is resumed."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matchnet.files import make_folder
from matchnet.messages import shown
from pipeline.data.shards.folder import ShardFolder
from pipeline.params import ComputeParams, ModelParams
from pipeline.system.storage import Location, location_of


@dataclass(frozen=True)
class RunFiles:
    """Files that a training reads, and the folder of its state.

    shards: the dataset's shards; every node sees them under this path unless there is a storage.
    runs: where folders of unfinished runs lie, one a set of parameters; `forget_runs` removes them.
    init: the file of the model that `model.init` names; seen as the shards are.
    trace: where rank 0 writes a profile of some of the steps, or None for none; see pipeline.training.profiling.
    """

    shards: ShardFolder
    runs: Path
    init: Path | None = None
    trace: Path | None = None


def run_folder(name: str, model: ModelParams, compute: ComputeParams, files: RunFiles) -> Path:
    """Folder in which this run keeps its state; its name has a hash of all that decides the weights.

    It begins with the model's full name. A table's name has no dot, so no two models share a folder.
    """
    decided: list[Any] = [asdict(model), asdict(compute), files.shards.sha256]
    if files.init is not None:
        if not files.init.is_file():
            raise ValueError(f"{files.init}: there is no such file: the model that this one begins with (init) is not "
                             "trained yet; `dvc repro` trains it first")
        decided.append(hashlib.sha256(files.init.read_bytes()).hexdigest())
    decisive = json.dumps(decided, sort_keys=True, default=str)
    return files.runs.absolute() / f"{name.replace('/', '.')}-{hashlib.sha256(decisive.encode()).hexdigest()[:12]}"


class RunInUseError(ValueError):
    """Another process trains this run."""


@contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Make the run's folder, if need be, and let no other process of this checkout train it while the block lasts.

    The lock is an flock: it ends with its process, however that ends.

    Raises:
        RunInUseError: another process has it.
    """
    make_folder(folder)  # synced: the checkpoints in it are to survive a power cut
    with open(folder / "lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise RunInUseError(f"{folder}: another process trains this run{_named(file.read())}") from error
        file.truncate(0)
        file.write(f"{os.getpid()} {socket.gethostname()}")
        file.flush()
        yield


def _named(holder: str) -> str:
    """End of the message about a lock, from the text of the lock's file, which is empty for a moment."""
    process, _, host = holder.partition(" ")
    return f": {process} on {host}; wait for its end, or end it there: kill {process}" if host else "; wait for its end"


def location_of_run(folder: Path, storage: str | None) -> Location:
    """Location of the checkpoints of the run with this folder: the folder itself, or its namesake on the storage.

    On the storage each checkout has its own runs: if two train the same, neither may remove files of the other.
    """
    return location_of(storage) / "runs" / _checkout(folder.parent) / folder.name if storage else location_of(folder)


def _checkout(runs: Path) -> str:
    """A name that no other folder of runs has; given when it is first asked for."""
    file = runs / "checkout"
    make_folder(runs)
    if not file.exists():
        new = runs / f".checkout-{uuid.uuid4().hex}"
        new.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
        with suppress(FileExistsError):  # another process was first and has given the name
            os.link(new, file)
        new.unlink()
    name = file.read_bytes().decode(errors="replace")
    if not re.fullmatch(r"[0-9a-f]{12}", name):
        raise ValueError(f"{file}: found {shown(name)}, not the 12 hex digits that name this checkout's runs on the "
                         "storage; delete it: its runs there begin anew")
    return name


def runs_of(name: str, runs: Path) -> list[Path]:
    """The folders of this model's runs, one a set of parameters."""
    name = name.replace("/", ".")  # as `run_folder` does
    return [folder for folder in sorted(runs.glob(f"{name}-*"))
            if re.fullmatch(re.escape(name) + "-[0-9a-f]{12}", folder.name)]


def forget_runs(name: str, runs: Path, storage: str | None = None) -> None:
    """Remove the folders of this model's runs: the finished one, and those of parameters given up.

    On the storage, only runs that have a folder in `runs` are removed.
    """
    for folder in runs_of(name, runs):
        with suppress(RunInUseError), only_driver(folder):  # a run in use is training just now, with other parameters
            if storage:
                location = location_of_run(folder, storage)
                with suppress(FileNotFoundError):
                    location.filesystem.delete_dir(location.path)
            shutil.rmtree(folder)
