"""Shared by all tests: where public downloads may lie, and one Ray for those that train under it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)  # tiny problems: more threads only wait for each other


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of public downloads that MATCHNET_MIRROR names, or that lies beside the repository."""
    given = os.environ.get("MATCHNET_MIRROR")
    folder = Path(given) if given else ROOT.parent / "shared" / "mirror"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set MATCHNET_MIRROR to a folder with the public downloads")
    return folder


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray with two CPUs for the whole session."""
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.05"
    from pipeline.training.cluster import ray_cluster

    with ray_cluster(None, num_cpus=2):
        yield
