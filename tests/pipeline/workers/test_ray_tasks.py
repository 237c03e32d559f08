"""Sharding and evaluation on a Ray cluster: the same bytes and the same bits as in one process, whoever is lost."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_imagenet
import small_omniglot
import torch

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.evaluation import embed_batch_size, embed_rows, episode_batch_size, to_input
from matchnet.files import sha256_of
from matchnet.methods import Method, build_method
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.model_file import ModelFile
from matchnet.preparation import Preparation
from pipeline.data.load.samples import load_samples
from pipeline.data.nodes.cache import CacheParams
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.make import shard_dataset
from pipeline.evaluate import on_workers
from pipeline.evaluate.on_workers import SampleAddress, Workers, embed_on
from pipeline.evaluate.row import evaluate_row
from pipeline.params import RowParams
from pipeline.workers.processes import RunTasks, WorkerKilledError, run_in_processes
from pipeline.workers.ray_tasks import Needs

PREPARATION = Preparation(channels=1, size=96, kind="drawings", invert=True)
SHAPE = PREPARATION.sample_shape
NETWORK = MatchingNetworkSpec(encoder=Conv4Spec(num_filters=8, num_blocks=2))
ROW = RowParams(model="m", dataset="small", split="random", columns=("3w1s2q", "2w5s1q"), episodes=450, seed=3)
AT_ONCE = (1, 2)


@pytest.fixture
def by_value() -> Iterator[None]:
    """Functions of this file, which Ray's workers cannot import, are sent as they are."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def on_ray(at_once: int) -> RunTasks:
    from pipeline.workers.ray_tasks import run_tasks

    return partial(run_tasks, at_once=at_once)


@pytest.fixture(scope="module")
def method() -> Method:
    """Its normalisation has seen images."""
    torch.manual_seed(0)
    method = build_method(NETWORK, SHAPE, num_classes=5)
    with torch.no_grad():
        method.train().embed(torch.rand(8, *SHAPE))
    return method.eval()


def shares_of(run: RunTasks, shards: Path, cache: CacheParams | None = None) -> Workers:
    return Workers(run, str(shards), cache, device="cpu", threads=1)


def measure(shards: Path, method: Method, workers: Workers | None) -> Any:
    model = ModelFile(model_name="m", method=NETWORK, preparation=PREPARATION, sample_shape=SHAPE,
                      num_classes=5, state_dict={}, step=1, seed=0,
                      dataset_sha256=ShardFolder(shards).sha256, split="random", train_classes=["a"], seconds=0.0)
    return evaluate_row(ROW, model, method, ShardFolder(shards), workers=workers)


def test_shared_features_are_those_of_one_process_to_the_last_bit(
        small_shards: Path, method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches, the last a smaller one; tasks that come back in any order."""
    monkeypatch.setattr(on_workers, "BATCHES_PER_TASK", 2)
    store, row_U = load_samples(ShardFolder(small_shards), "random", ("test",), SHAPE).store, np.arange(3, 80)
    assert len(row_U) > 3 * embed_batch_size(store, "cpu") and len(row_U) % embed_batch_size(store, "cpu")
    alone = embed_rows(method, store, row_U, "cpu")
    groups = ShardFolder(small_shards).groups_of("random", ("test",))
    source = SampleAddress(str(small_shards), None, tuple(groups), "random", "test", SHAPE)

    def backwards(start: Any, start_args: tuple, work: Any, tasks: Any) -> Iterator[Any]:
        return run_in_processes(start, start_args, work, tasks[::-1], 1)

    shared = embed_on(shares_of(backwards, small_shards), method, source, store, row_U)
    assert torch.equal(shared.samples, alone.samples) and torch.equal(shared.position_R, alone.position_R)
    one_by_one = torch.cat([method.embed(to_input(store.gather(torch.tensor([row])))) for row in row_U.tolist()])
    torch.testing.assert_close(shared.samples, one_by_one.detach(), rtol=1e-4, atol=1e-5)


def test_a_row_on_a_cluster_gives_what_one_process_gives(
        ray_session: None, small_shards: Path, method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_workers, "BATCHES_PER_TASK", 1)
    alone = measure(small_shards, method, None)
    assert len(set(alone.episodes["3w1s2q"].accuracy_E)) > 3
    cache = CacheParams(folder=str(tmp_path / "cache"), gib=0.1)
    for at_once in AT_ONCE:
        shared = measure(small_shards, method, shares_of(on_ray(at_once), small_shards, cache))
        for column in ROW.columns:
            for field in ("accuracy_E", "most_one_way_E"):
                expected, found = (getattr(one.episodes[column], field) for one in (alone, shared))
                assert np.array_equal(expected, found), (at_once, column, field)
        assert shared.details.columns == alone.details.columns
        for one, other in zip(alone.shown, shared.shown, strict=True):
            assert torch.equal(one.log_probs_QN, other.log_probs_QN) and torch.equal(one.query_Q, other.query_Q)
    assert list(tmp_path.glob("cache/*/dataset.json")), "workers read through their node's cache"
    features = torch.zeros(1, 8 * 24 * 24)
    assert all(episode_batch_size(on_workers.SomeRows(features, torch.zeros(1, dtype=torch.int64), 1), spec)
               < ROW.episodes / 2 for spec in ROW.tasks.values()), "the episodes are several tasks"


def test_shards_made_on_a_cluster_have_the_same_bytes(
        ray_session: None, small_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = small_omniglot.small_omniglot(tmp_path / "raw", monkeypatch)
    shard_dataset("small", small_omniglot.PARAMS, raw, tmp_path / "shards", run=on_ray(2))
    expected, found = ({path.name: sha256_of(path) for path in folder.iterdir()}
                       for folder in (small_shards, tmp_path / "shards"))
    assert found == expected and len(found) > 6


def test_photographs_mended_on_a_cluster_have_the_same_bytes_and_counts(ray_session: None, tmp_path: Path) -> None:
    raw = small_imagenet.small_raw(tmp_path)
    alone, shared = (shard_dataset("small", small_imagenet.PARAMS, raw, tmp_path / "out" / name, run=run)
                     for name, run in (("alone", None), ("shared", on_ray(2))))
    assert alone == shared and alone.oddities and sum(alone.oddities.values()) == 5 and len(alone.shards) > 2
    expected, found = ({path.name: sha256_of(path) for path in (tmp_path / "out" / name).iterdir()}
                       for name in ("alone", "shared"))
    assert found == expected


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.05)


def square(started: None, task: int) -> int:
    return task * task


def test_waiting_for_the_cores_of_others_is_told_once(
        ray_session: None, by_value: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    import ray

    from pipeline.workers import ray_tasks

    monkeypatch.setattr(ray_tasks, "SECONDS_WITHOUT_A_WORD", 0.5)
    both = ray.remote(num_cpus=2)(wait_for).remote(tmp_path / "ready")
    wait_until_free(0)
    threading.Timer(2, (tmp_path / "ready").touch).start()
    assert dict(on_ray(2)(Counter, (), square, range(3))) == {0: 0, 1: 1, 2: 4}
    ray.get(both)
    assert capsys.readouterr().err.count("waiting for 1 CPUs of the cluster, which has 0 CPUs free now") == 1


def wait_until_free(cpus: int) -> None:
    import ray

    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) != cpus:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_that_no_node_has_room_for(ray_session: None) -> None:
    from pipeline.cluster.placement import ResourcesError
    from pipeline.workers.ray_tasks import run_tasks

    message = (r"a task needs 3 CPUs and 0 GPUs of one node, and none of the cluster's 1 has them: the most are 2 CPUs "
               r"and \d+ GPUs; add a node")
    with pytest.raises(ResourcesError, match=message):
        list(run_tasks(Counter, (), square, range(3), needs=Needs(cpus=3)))


def start_in(folder: Path) -> Path:
    (folder / f"started-{os.getpid()}").touch()
    return folder


def die_once(folder: Path, task: int) -> int:
    """Job 2 takes its process with it, the first time."""
    if task == 2 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 5:
        raise ValueError("sample 5 is damaged")
    return task * task


def test_a_job_whose_worker_is_lost_is_run_again(ray_session: None, by_value: None, tmp_path: Path) -> None:
    found = dict(on_ray(2)(start_in, (tmp_path,), die_once, range(5)))
    assert found == {task: task * task for task in range(5)} and (tmp_path / "died").exists()


def die_always(started: None, task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


LOST = (r"^\[Errno 10\] the cluster lost the worker of a task 4 times \(out of memory\?\), or cannot run tasks "
        r"any more: .*; set cluster\.num_processes lower, or add memory, and run the same command again$")


def test_a_job_that_loses_its_worker_again_and_again_names_the_parameter(ray_session: None, by_value: None) -> None:
    with pytest.raises(WorkerKilledError, match=LOST):
        list(on_ray(1)(Counter, (), die_always, [1]))


def test_what_ray_says_of_a_lost_worker_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import LocalRayletDiedError, OutOfMemoryError, RayError, RayTaskError

    from pipeline.workers import ray_tasks

    def fail(*values: Any) -> None:
        raise errors[-1]

    errors: list[Exception] = []
    monkeypatch.setattr(ray_tasks, "require_node", fail)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "10.0.0.1")
    for error in (OutOfMemoryError("killed\nby the node"), LocalRayletDiedError(), RayError("no storage"),
                  RayTaskError("work", "traceback", OutOfMemoryError("in a task"))):
        errors.append(error)
        with pytest.raises(WorkerKilledError, match=LOST) as raised:
            list(on_ray(1)(Counter, (), square, [1]))
        assert "\n" not in str(raised.value)
    errors.append(RayTaskError("work", "traceback", ValueError("sample 5 is damaged")))
    with pytest.raises(ValueError, match=r"^sample 5 is damaged$"):
        list(on_ray(1)(Counter, (), square, [1]))
    errors.append(OutOfMemoryError("killed"))
    with pytest.raises(WorkerKilledError, match="; write less, or add memory"):
        list(ray_tasks.run_tasks(Counter, (), square, [1], needs=Needs(2, 0, "write less")))


def test_an_error_in_a_job_comes_as_it_is(ray_session: None, by_value: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^sample 5 is damaged$"):
        list(on_ray(2)(start_in, (tmp_path,), die_once, [5]))
