"""How many workers, threads and GPUs a training takes of a cluster, and clusters that are too small for it."""

from dataclasses import replace

import pytest

from pipeline.cluster.placement import ResourcesError, choose_placement
from pipeline.params import ComputeParams

COMPUTE = ComputeParams(num_workers=1, threads_per_worker=1, device="cpu", precision="fp32")


@pytest.mark.parametrize(("compute", "message"), [
    (replace(COMPUTE, num_workers=3), "compute.num_workers is 3 with 1 threads each (compute.threads_per_worker): "
                                      "3 cores, and the cluster has 2; lower one of them or add nodes"),
    (replace(COMPUTE, device="gpu", num_workers=64), "compute.num_workers is 64 with a GPU each, and the cluster has"),
])
def test_a_cluster_that_is_too_small_is_refused_at_once(ray_session, compute, message):
    with pytest.raises(ResourcesError) as refusal:
        choose_placement(compute)
    assert message in str(refusal.value)


def test_threads_are_the_cores_shared_by_the_workers(ray_session):
    assert choose_placement(replace(COMPUTE, threads_per_worker=None)).threads == 2
    assert choose_placement(replace(COMPUTE, threads_per_worker=None, num_workers=2)).threads == 1


@pytest.mark.parametrize(("change", "threads"), [
    ({}, 8), ({"num_workers": 4}, 4), ({"num_workers": (1, 6)}, 4), ({"num_workers": (1, 100)}, 1),
    ({"num_workers": 3, "threads_per_worker": 2}, 2)])
def test_a_workers_threads_are_of_one_node(monkeypatch, change, threads):
    three_nodes(monkeypatch)
    assert choose_placement(replace(COMPUTE, **{"threads_per_worker": None, **change})).threads == threads


def test_a_range_of_workers_takes_the_gpus_that_there_are(monkeypatch):
    three_nodes(monkeypatch, gpus=1)
    found = choose_placement(replace(COMPUTE, num_workers=(1, 8), threads_per_worker=None, device="auto"))
    assert found.use_gpu and found.threads == 8
    assert not choose_placement(replace(COMPUTE, num_workers=(4, 8), device="auto")).use_gpu
    three_nodes(monkeypatch, gpus=4)
    few = choose_placement(replace(COMPUTE, num_workers=2, threads_per_worker=None, device="auto"))
    assert few.use_gpu and few.threads == 2, "the other GPUs keep their cores"


def test_workers_that_no_node_has_room_for_are_refused(monkeypatch):
    three_nodes(monkeypatch)
    with pytest.raises(ResourcesError, match=r"num_workers is 4 with 5 threads each .*: 20 cores, and the cluster has "
                                             "24 on 3 nodes, which hold 3 such workers; lower one of them"):
        choose_placement(replace(COMPUTE, num_workers=(4, 8), threads_per_worker=5))


def three_nodes(monkeypatch: pytest.MonkeyPatch, gpus: int = 0) -> None:
    """Of 8 cores each, and one that is gone."""
    nodes = [{"Alive": alive, "Resources": {"CPU": 8.0, "GPU": gpus}} for alive in (True, True, False, True)]
    monkeypatch.setattr("pipeline.cluster.connection.ray.nodes", lambda: nodes)
