"""A cluster over two hosts with a slow link between them: it trains, shards and evaluates as one host does, and its
training outlives a link that is cut.

The hosts are network namespaces of this machine, so that one who may not make them skips all of this.
"""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chaos import COMPUTE, Outcome, Problem, Run, difference, problem_of
from repository_copy import Copy, small_copy
from small_omniglot import PARAMS, small_omniglot
from two_hosts import ENVIRONMENT, ClusterOfTwo, Hosts, can_be_made

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.methods import build_method
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.model_file import read_model
from pipeline.data.shards.make import shard_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STEPS, CUT_SECONDS, PATIENCE = 300, 20, 600


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if not can_be_made():
        pytest.skip("network namespaces cannot be made here: that takes root, ip and tc")
    made = Hosts()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        shard_dataset("small", PARAMS, small_omniglot(folder / "raw", patch), folder / "shards")
    return folder


@pytest.fixture
def cluster(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterOfTwo]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    cluster = ClusterOfTwo(hosts)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def problem(steps: int = STEPS, num_filters: int = 4) -> Problem:
    model = problem_of("worker", 1).model
    assert model.training is not None
    training = replace(model.training, steps=steps, valid_every=steps)
    method = MatchingNetworkSpec(encoder=Conv4Spec(num_filters))
    return Problem(replace(model, training=training, method=method), COMPUTE)


def trained(cluster: ClusterOfTwo, folder: Path, name: str, wanted: Problem) -> Outcome:
    return Run(cluster, folder / "shards", folder / name, wanted).end()


@pytest.fixture(scope="module")
def on_one_host(folder: Path) -> Outcome:
    """The same two workers, on this machine without the hosts."""
    from ray_nodes import Cluster

    cluster = Cluster()
    try:
        cluster.start()
        return Run(cluster, folder / "shards", folder / "one", problem()).end()
    finally:
        cluster.stop()


def test_two_hosts_end_with_the_weights_of_one(cluster: ClusterOfTwo, folder: Path, on_one_host: Outcome) -> None:
    assert difference(trained(cluster, folder, "two", problem()), on_one_host, "worker") is None


def test_a_link_that_is_cut_and_comes_back(cluster: ClusterOfTwo, hosts: Hosts, folder: Path,
                                           on_one_host: Outcome) -> None:
    """Ray gives a node up that it has not heard of for a while; its raylet then ends, and the user starts another."""
    run = Run(cluster, folder / "shards", folder / "back", problem())
    run.wait_for_step(STEPS // 3)
    hosts.cut()
    time.sleep(CUT_SECONDS)
    hosts.mend()
    assert difference(end_with_new_nodes(run, cluster), on_one_host, "worker") is None


def test_a_link_that_stays_cut(cluster: ClusterOfTwo, hosts: Hosts, folder: Path, on_one_host: Outcome) -> None:
    """Another node on the first host takes the place of the one that is lost."""
    run = Run(cluster, folder / "shards", folder / "lost", problem())
    run.wait_for_step(STEPS // 3)
    lost = cluster.nodes[2]
    hosts.cut()
    try:
        cluster.replace(lost, hosts.host(0))
        assert difference(run.end(), on_one_host, "worker") is None
    finally:
        lost.kill()
        hosts.mend()


def end_with_new_nodes(run: Run, cluster: ClusterOfTwo) -> Outcome:
    deadline = time.monotonic() + PATIENCE
    while run.driver.process.poll() is None and time.monotonic() < deadline:
        if cluster.far_node_is_lost():
            cluster.replace(cluster.nodes[2])
        time.sleep(0.5)
    return run.end()


def test_a_step_sends_the_gradient_once(cluster: ClusterOfTwo, hosts: Hosts, folder: Path) -> None:
    """A ring of n workers sends 2 (n - 1) / n gradients from each (docs/cluster.md): one of 4 bytes a weight for 2."""
    wanted = problem(60, num_filters=64)
    run = Run(cluster, folder / "shards", folder / "traffic", wanted)
    run.wait_for_step(10)
    before, first = hosts.bytes_sent(), run.steps_logged()[-1]["step"]
    run.wait_for_step(50)
    after, last = hosts.bytes_sent(), run.steps_logged()[-1]["step"]
    run.end()
    method = build_method(wanted.model.method, (1, 28, 28), 0)
    gradient = 4 * sum(weight.numel() for weight in method.parameters())
    for sent_before, sent_after in zip(before, after, strict=True):
        a_step = (sent_after - sent_before) / (last - first)
        print(f"{a_step:,.0f} bytes a step, {a_step / gradient:.2f} of the gradient's {gradient:,}")
        assert 0.9 < a_step / gradient < 1.5


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_experiment_gives_what_this_machine_alone_gives(cluster: ClusterOfTwo, hosts: Hosts,
                                                                tmp_path: Path) -> None:
    """Sharding, training and evaluation, each on both hosts; the storage is a folder that both see."""
    alone, shared = checkout(tmp_path / "alone"), checkout(tmp_path / "shared", tmp_path / "storage")
    alone.run("dvc", "repro")
    done = subprocess.run([*hosts.host(0)[0], "dvc", "repro"], cwd=shared.folder, capture_output=True, text=True,
                          env={**shared.environment, "RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled"})
    assert done.returncode == 0, done.stdout + done.stderr
    for place in ("data/shards/glyphs", "data/evaluations"):
        assert files(shared.folder / place) == files(alone.folder / place)
    expected, found = (read_model(copy.folder / "data/models/demo/matching/model.pt").state_dict
                       for copy in (alone, shared))
    assert all(torch.equal(found[name], weights) for name, weights in expected.items())


def checkout(folder: Path, storage: Path | None = None) -> Copy:
    copy = small_copy(folder, trained=True)
    if storage is not None:
        copy.set("cluster.storage", str(storage))
        copy.set("cluster.num_processes", 2)
    return copy
