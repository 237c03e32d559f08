"""Folders of unfinished training runs: what an interrupted run is taken up from."""

import hashlib
import json
import re
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.data.manifest import manifest_sha256
from pipeline.params import ComputeParams, ModelParams
from pipeline.storage import Place, place_of


def run_folder(name: str, model: ModelParams, compute: ComputeParams, shards: Path, runs: Path,
               init: Path | None = None) -> Path:
    """Where this run keeps its state; its name has a hash of all that decides the weights."""
    decided: list[Any] = [asdict(model), asdict(compute), manifest_sha256(shards)]
    if init is not None:
        decided.append(hashlib.sha256(init.read_bytes()).hexdigest())
    decisive = json.dumps(decided, sort_keys=True, default=str)
    return runs.absolute() / f"{name}-{hashlib.sha256(decisive.encode()).hexdigest()[:12]}"


def place_of_run(folder: Path, storage: str | None) -> Place:
    """Where the checkpoints of the run with this folder lie: in it, or in its namesake on the storage."""
    return place_of(storage) / "runs" / folder.name if storage else place_of(folder)


def forget_runs(name: str, runs: Path, storage: str | None = None) -> None:
    """Remove the folders of this model's runs: the finished one, and those of parameters given up.

    On the storage, those alone that have a folder in `runs`: others share it.
    """
    for folder in runs.glob(f"{name}-*"):
        if re.fullmatch(re.escape(name) + "-[0-9a-f]{12}", folder.name):
            if storage:
                place = place_of_run(folder, storage)
                with suppress(FileNotFoundError):
                    place.filesystem.delete_dir(place.path)
            shutil.rmtree(folder)
