"""Folders of unfinished training runs: what an interrupted run is taken up from."""

import hashlib
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.data.manifest import manifest_sha256
from pipeline.params import ComputeParams, ModelParams


def run_folder(name: str, model: ModelParams, compute: ComputeParams, shards: Path, runs: Path,
               init: Path | None = None) -> Path:
    """Where this run keeps its state; its name has a hash of all that decides the weights."""
    decided: list[Any] = [asdict(model), asdict(compute), manifest_sha256(shards)]
    if init is not None:
        decided.append(hashlib.sha256(init.read_bytes()).hexdigest())
    decisive = json.dumps(decided, sort_keys=True, default=str)
    return runs.absolute() / f"{name}-{hashlib.sha256(decisive.encode()).hexdigest()[:12]}"


def forget_runs(name: str, runs: Path) -> None:
    """Remove the folders of this model's runs: the finished one, and those of parameters given up."""
    for folder in runs.glob(f"{name}-*"):
        if re.fullmatch(re.escape(name) + "-[0-9a-f]{12}", folder.name):
            shutil.rmtree(folder)
