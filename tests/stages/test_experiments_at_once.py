"""`dvc repro` of two checkouts at once, on one cluster of three nodes with one storage, against one on this machine."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ray_nodes import Cluster
from repository_copy import Copy, files, small_copy

from matchnet.model_file import read_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def checkout(folder: Path, storage: Path | None = None) -> Copy:
    copy = small_copy(folder, trained=True)
    copy.set("recipes.conv4.training.steps", 60)
    copy.set("recipes.conv4.training.checkpoint_every", 10)
    if storage is not None:
        copy.set("cluster.storage", str(storage))
    return copy


@pytest.mark.parametrize("with_storage", [False, True])
def test_they_give_what_one_alone_gives(cluster, tmp_path, with_storage):
    """They are the same experiment, so that nothing but the checkout tells their runs from each other."""
    alone = checkout(tmp_path / "alone")
    alone.run("dvc", "repro")
    storage = tmp_path / "storage" if with_storage else None
    copies = [checkout(tmp_path / name, storage) for name in ("one", "other")]
    running = [subprocess.Popen(["dvc", "repro"], cwd=copy.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, env={**copy.environment, "RAY_ADDRESS": cluster.address,
                                                "RAY_AUTH_MODE": "disabled"}) for copy in copies]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n\n".join(outputs)
    expected = read_model(alone.folder / "data/models/demo/matching/model.pt")
    for copy in copies:
        assert files(copy.folder / "data/shards/glyphs") == files(alone.folder / "data/shards/glyphs")
        model = read_model(copy.folder / "data/models/demo/matching/model.pt")
        assert model.state_dict.keys() == expected.state_dict.keys()
        assert all(torch.equal(model.state_dict[name], weights) for name, weights in expected.state_dict.items())
        accuracies = files(copy.folder / "data/evaluations")
        assert accuracies and accuracies == files(alone.folder / "data/evaluations")
    if storage is not None:
        assert list((storage / "shards").iterdir())
        assert not list((storage / "runs").rglob("*.pt")), "a run's state is removed when its model is written"
