"""A cluster over two hosts with a slow link between them: it trains, shards and evaluates as one host does, and its
training outlives a link that is cut.

The hosts are network namespaces of this machine. A user who may not make namespaces skips these tests.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chaos import COMPUTE, Outcome, Problem, Run, difference, problem_of
from ray_nodes import Cluster
from repository_copy import Copy, files, small_copy
from small_omniglot import PARAMS, small_omniglot
from two_hosts import ENVIRONMENT, ClusterOfTwo, Hosts

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.methods import build_method
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.model_file import read_model
from pipeline.data.shards.make import shard_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STEPS, CUT_SECONDS, PATIENCE = 300, 20, 600


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    try:
        made = Hosts()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces cannot be made here, which takes root, ip and tc: {error}")
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


@contextmanager
def running(cluster: Cluster, folder: Path, name: str, wanted: Problem) -> Iterator[Run]:
    run = Run(cluster, folder / "shards", folder / name, wanted)
    try:
        yield run
    finally:
        run.driver.process.kill()
        run.driver.process.wait()


@pytest.fixture(scope="module")
def on_one_host(folder: Path) -> Outcome:
    """The same two workers, on this machine without the hosts."""
    cluster = Cluster()
    try:
        cluster.start()
        with running(cluster, folder, "one", problem()) as run:
            return run.end()
    finally:
        cluster.stop()


def last_step(run: Run) -> int:
    return max(line["step"] for line in run.steps_logged())


def cut_while_it_trains(run: Run, hosts: Hosts) -> None:
    """Once it trains, cut the link; no step is made from then on."""
    run.wait_for_step(STEPS // 3)
    hosts.cut()
    time.sleep(2)
    stopped_at = last_step(run)
    time.sleep(5)
    assert last_step(run) == stopped_at < STEPS


def test_two_hosts_end_with_the_weights_of_one(on_one_host: Outcome, cluster: ClusterOfTwo, folder: Path) -> None:
    with running(cluster, folder, "two", problem()) as run:
        assert difference(run.end(), on_one_host, "worker") is None


def test_a_link_that_is_cut_for_20_seconds(on_one_host: Outcome, cluster: ClusterOfTwo, hosts: Hosts,
                                           folder: Path) -> None:
    """Whether Ray gives the far node up meanwhile or not; if it does, the node ends, and the user starts another."""
    with running(cluster, folder, "back", problem()) as run:
        cut_while_it_trains(run, hosts)
        time.sleep(CUT_SECONDS - 7)
        hosts.mend()
        deadline = time.monotonic() + PATIENCE
        while run.driver.process.poll() is None and time.monotonic() < deadline:
            if cluster.far_node_is_lost():
                cluster.replace(cluster.nodes[2])
            time.sleep(0.5)
        assert difference(run.end(), on_one_host, "worker") is None
        print(f"cut for {CUT_SECONDS} s: {len(run.attempts())} attempts")


def test_a_link_that_stays_cut(on_one_host: Outcome, cluster: ClusterOfTwo, hosts: Hosts, folder: Path) -> None:
    """Another node on the first host takes the place of the one that is lost."""
    with running(cluster, folder, "lost", problem()) as run:
        cut_while_it_trains(run, hosts)
        lost = cluster.nodes[2]
        try:
            cluster.replace(lost, hosts.host(0))
            assert difference(run.end(), on_one_host, "worker") is None
            assert len(run.attempts()) > 1
        finally:
            lost.kill()
            hosts.mend()


def test_a_step_sends_the_gradient_once(cluster: ClusterOfTwo, hosts: Hosts, folder: Path) -> None:
    """A ring of n workers sends 2 (n - 1) / n gradients from each (docs/cluster.md): one of 4 bytes a weight for 2."""
    wanted = problem(60, num_filters=64)
    with running(cluster, folder, "traffic", wanted) as run:
        run.wait_for_step(10)
        before, first = hosts.bytes_sent(), last_step(run)
        run.wait_for_step(50)
        after, last = hosts.bytes_sent(), last_step(run)
        run.end()
    method = build_method(wanted.model.method, (1, 28, 28), 0)
    gradient = 4 * sum(weight.numel() for weight in method.parameters())
    for sent_before, sent_after in zip(before, after, strict=True):
        a_step = (sent_after - sent_before) / (last - first)
        print(f"{a_step:,.0f} bytes a step, {a_step / gradient:.2f} of the gradient's {gradient:,}")
        assert 0.9 < a_step / gradient < 1.5


def test_a_whole_experiment_gives_what_this_machine_alone_gives(cluster: ClusterOfTwo, hosts: Hosts,
                                                                tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """Sharding, training and evaluation; the storage is a folder that both see. The link carries the tasks' share."""
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")  # for the one alone
    alone, shared = checkout(tmp_path / "alone"), checkout(tmp_path / "shared", tmp_path / "storage")
    alone.run("dvc", "repro")
    before = sum(hosts.bytes_sent())
    done = subprocess.run([*hosts.host(0)[0], "dvc", "repro"], cwd=shared.folder, capture_output=True, text=True,
                          env={**shared.environment, **ENVIRONMENT, "RAY_ADDRESS": cluster.address,
                               "RAY_AUTH_MODE": "disabled"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(hosts.bytes_sent()) - before > 1e6, "the second host had nothing to do"
    for place in ("data/shards/glyphs", "data/evaluations"):
        assert files(shared.folder / place) == files(alone.folder / place)
    expected, found = (read_model(copy.folder / "data/models/demo/matching/model.pt").state_dict
                       for copy in (alone, shared))
    assert all(torch.equal(found[name], weights) for name, weights in expected.items())


def checkout(folder: Path, storage: Path | None = None) -> Copy:
    """Trained by two workers, here by two of one machine."""
    copy = small_copy(folder, trained=True)
    copy.set("compute.num_workers", 2)
    copy.set("recipes.conv4.training.episodes_per_step", 2)
    if storage is not None:
        copy.set("cluster.storage", str(storage))
        copy.set("cluster.num_processes", 2)
    return copy
