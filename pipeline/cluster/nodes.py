"""The nodes of the connected cluster: what they have, and what is free of it."""

from collections.abc import Mapping

import pipeline.cluster.ray_environment  # noqa: F401  # isort: skip

import ray

from pipeline.cluster.placement import Node, Placement, ResourcesError
from pipeline.params import ComputeParams
from pipeline.system.progress import say


def nodes_of_cluster() -> list[Node]:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]


def require_node(cpus: int, gpus: int) -> None:
    """Raises ResourcesError unless one node of the connected cluster has so many; see `choose_placement`."""
    nodes = nodes_of_cluster()
    if not any(node.cpus >= cpus and node.gpus >= gpus for node in nodes):
        most = max((node.cpus for node in nodes), default=0), max((node.gpus for node in nodes), default=0)
        raise ResourcesError(f"a task needs {cpus} CPUs and {gpus} GPUs of one node, and none of the cluster's "
                             f"{len(nodes)} has them: the most are {most[0]} CPUs and {most[1]} GPUs; add a node "
                             "that has (ray start --num-cpus, --num-gpus)")


def say_waiting(needed: Mapping[str, int]) -> None:
    """Say what is waited for, such as `{"CPU": 2}`, and how much of it is free now. Ray itself waits without a word."""
    wanted, free = (" and ".join(f"{count} {kind}s" for kind, count in counts.items())
                    for counts in (needed, {kind: _free(kind) for kind in needed}))
    say(f"waiting for {wanted} of the cluster, which has {free} free now")


def say_if_waiting(compute: ComputeParams, placement: Placement) -> None:
    """Say what a training waits for, if not all that its workers need is free."""
    kind, each = ("GPU", 1) if placement.use_gpu else ("CPU", placement.threads)
    if _free(kind) < (needed := compute.fewest_workers * each):
        say_waiting({kind: needed})


def _free(kind: str) -> int:
    return int(ray.available_resources().get(kind, 0))
