"""Placement of workers on the nodes of the connected cluster: their number, device and threads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pipeline.cluster.ray_environment  # noqa: F401  # isort: skip

import ray

from pipeline.params import ComputeParams
from pipeline.system.progress import say


class ResourcesError(ValueError):
    """The cluster cannot hold the workers that the parameters ask for."""


@dataclass(frozen=True)
class Placement:
    """Device and threads of each worker."""

    use_gpu: bool
    threads: int


class _Node(NamedTuple):
    cpus: int
    gpus: int

    def holds(self, placement: Placement) -> int:
        """Number of workers that the node holds."""
        by_cores = self.cpus // placement.threads
        return min(by_cores, self.gpus) if placement.use_gpu else by_cores


def choose_placement(compute: ComputeParams) -> Placement:
    """Decide device and threads of the workers from what the connected cluster has; a worker's threads are of one node.

    Raises:
        ResourcesError: the cluster has too little; without this check Ray would wait for ever.
    """
    nodes, fewest = _of_each_node(), compute.fewest_workers
    gpus = sum(node.gpus for node in nodes)
    use_gpu = compute.device == "gpu" or (compute.device == "auto" and gpus >= fewest)
    if use_gpu and gpus < fewest:
        raise ResourcesError(f"compute.num_workers is {fewest} with a GPU each, and the cluster has {gpus}; "
                             "lower it, set compute.device to cpu, or add nodes")
    threads = compute.threads_per_worker or (
        _threads_beside_gpus(nodes) if use_gpu else _threads_of_cores(nodes, compute.most_workers))
    placement = Placement(use_gpu, threads)
    held = sum(node.holds(placement) for node in nodes)
    if held < fewest:
        each = "" if len(nodes) == 1 else f" on {len(nodes)} nodes, which hold {held} such workers"
        raise ResourcesError(f"compute.num_workers is {fewest} with {threads} threads each "
                             f"(compute.threads_per_worker): {threads * fewest} cores, and the cluster has "
                             f"{sum(node.cpus for node in nodes)}{each}; lower one of them or add nodes")
    return placement


def _threads_beside_gpus(nodes: Sequence[_Node]) -> int:
    """The cores of a node, shared among its GPUs: those without a worker keep their cores."""
    return min(max(1, node.cpus // node.gpus) for node in nodes if node.gpus)


def _threads_of_cores(nodes: Sequence[_Node], most_workers: int) -> int:
    """The most threads that each of `most_workers` workers can have, or each of as many as there are cores."""
    wanted = min(most_workers, sum(node.cpus for node in nodes))
    enough = [threads for threads in range(1, max(node.cpus for node in nodes) + 1)
              if sum(node.holds(Placement(False, threads)) for node in nodes) >= wanted]
    return max(enough, default=1)


def require_node(cpus: int, gpus: int) -> None:
    """Raises ResourcesError unless one node of the connected cluster has so many; see `choose_placement`."""
    nodes = _of_each_node()
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


def say_what_is_used(compute: ComputeParams, placement: Placement) -> None:
    """Print how many GPUs the training uses, and say what it waits for."""
    kind, each = ("GPU", 1) if placement.use_gpu else ("CPU", placement.threads)
    there = int(ray.cluster_resources().get("GPU", 0))
    if there > 1 and compute.device != "cpu":
        used = min(compute.most_workers, there) if placement.use_gpu else 0
        print(f"training on {used} of {there} GPUs (compute.num_workers)", flush=True)
    if _free(kind) < (needed := compute.fewest_workers * each):
        say_waiting({kind: needed})


def _of_each_node() -> list[_Node]:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [_Node(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]


def _free(kind: str) -> int:
    return int(ray.available_resources().get(kind, 0))
