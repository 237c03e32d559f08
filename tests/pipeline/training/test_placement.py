"""How many workers, threads and GPUs a training takes of a cluster, and clusters that are too small for it."""

from dataclasses import replace

import pytest

from pipeline.cluster.nodes import nodes_of_cluster
from pipeline.cluster.placement import Node, ResourcesError, choose_placement
from pipeline.params import ComputeParams

COMPUTE = ComputeParams(num_workers=1, threads_per_worker=1, device="cpu", precision="fp32")


@pytest.mark.parametrize(("compute", "message"), [
    (replace(COMPUTE, num_workers=3), "compute.num_workers is 3 with 1 threads each (compute.threads_per_worker): "
                                      "3 cores, and there are 2; lower one of them or add nodes"),
    (replace(COMPUTE, device="gpu", num_workers=64), "compute.num_workers is 64 with a GPU each, and there are"),
])
def test_a_machine_that_is_too_small_is_refused_at_once(compute, message):
    with pytest.raises(ResourcesError) as refusal:
        choose_placement(compute, [Node(2, 0)])
    assert message in str(refusal.value)


def test_threads_are_the_cores_shared_by_the_workers(ray_session):
    nodes = nodes_of_cluster()
    assert choose_placement(replace(COMPUTE, threads_per_worker=None), nodes).threads == 2
    assert choose_placement(replace(COMPUTE, threads_per_worker=None, num_workers=2), nodes).threads == 1


@pytest.mark.parametrize(("change", "threads"), [
    ({}, 8), ({"num_workers": 4}, 4), ({"num_workers": (1, 6)}, 4), ({"num_workers": (1, 100)}, 1),
    ({"num_workers": 3, "threads_per_worker": 2}, 2)])
def test_a_workers_threads_are_of_one_node(change, threads):
    nodes = three_nodes()
    assert choose_placement(replace(COMPUTE, **{"threads_per_worker": None, **change}), nodes).threads == threads


def test_a_range_of_workers_takes_the_gpus_that_there_are():
    nodes = three_nodes(gpus=1)
    found = choose_placement(replace(COMPUTE, num_workers=(1, 8), threads_per_worker=None, device="auto"), nodes)
    assert found.use_gpu and found.threads == 8
    assert not choose_placement(replace(COMPUTE, num_workers=(4, 8), device="auto"), nodes).use_gpu
    nodes = three_nodes(gpus=4)
    few = choose_placement(replace(COMPUTE, num_workers=2, threads_per_worker=None, device="auto"), nodes)
    assert few.use_gpu and few.threads == 2, "the other GPUs keep their cores"


def test_workers_that_no_node_has_room_for_are_refused():
    nodes = three_nodes()
    with pytest.raises(ResourcesError, match=r"num_workers is 4 with 5 threads each .*: 20 cores, and there are "
                                             "24 on 3 nodes, which hold 3 such workers; lower one of them"):
        choose_placement(replace(COMPUTE, num_workers=(4, 8), threads_per_worker=5), nodes)


def three_nodes(gpus: int = 0) -> list[Node]:
    return [Node(8, gpus)] * 3


def test_nodes_that_are_gone_have_nothing(monkeypatch):
    nodes = [{"Alive": alive, "Resources": {"CPU": 8.0, "GPU": 1.0}} for alive in (True, False)]
    monkeypatch.setattr("pipeline.cluster.nodes.ray.nodes", lambda: nodes)
    assert nodes_of_cluster() == [Node(8, 1)]
