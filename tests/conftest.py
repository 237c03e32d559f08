"""Shared by all tests: one Ray, and one small dataset, for those that train under it."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_corpus
import small_omniglot
import torch
from places import ROOT

from pipeline.data.shards.make import shard_dataset

# pipeline and stages are not installed: processes that tests start find them as `python -m` in the checkout does
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
torch.set_num_threads(1)  # tiny problems: more threads only wait for each other
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background; all that tests start would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Files that take longest come first: at the end, none of two processes then waits long for the other.
LONGEST = ("tests/stages/", "tests/pipeline/training/", "tests/pipeline/submission/", "tests/pipeline/data/shards/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray with two CPUs for the whole session."""
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.05"
    from pipeline.cluster.connection import ray_cluster

    with ray_cluster(None, num_cpus=2):
        yield


@pytest.fixture(scope="session")
def small_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen classes of twenty drawings, sharded."""
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        raw = small_omniglot.small_omniglot(folder / "raw", patch)
        shard_dataset("small", small_omniglot.PARAMS, raw, folder / "shards")
    return folder / "shards"


@pytest.fixture(scope="session")
def small_corpus_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few hundred sentences, sharded."""
    folder = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        raw = small_corpus.small_corpus(folder / "raw", patch)
        shard_dataset("small", small_corpus.PARAMS, raw, folder / "shards")
    return folder / "shards"


@pytest.fixture
def copied_shards(small_shards: Path, tmp_path: Path) -> Path:
    """Of the same, to be damaged."""
    return Path(shutil.copytree(small_shards, tmp_path / "copied"))
