"""Placement of workers on nodes, which are this machine or those of a cluster: their number, device and threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.params import ComputeParams


class ResourcesError(ValueError):
    """The nodes cannot hold the workers that the parameters ask for."""


@dataclass(frozen=True)
class Placement:
    """Device and threads of each worker."""

    use_gpu: bool
    threads: int


class Node(NamedTuple):
    """What a machine has for workers."""

    cpus: int
    gpus: int

    def holds(self, placement: Placement) -> int:
        """Number of workers that the node holds."""
        by_cores = self.cpus // placement.threads
        return min(by_cores, self.gpus) if placement.use_gpu else by_cores


def choose_placement(compute: ComputeParams, nodes: Sequence[Node]) -> Placement:
    """Decide device and threads of the workers from what the nodes have; a worker's threads are of one node.

    Raises:
        ResourcesError: the nodes have too little; without this check Ray would wait for ever.
    """
    fewest = compute.fewest_workers
    gpus = sum(node.gpus for node in nodes)
    use_gpu = compute.device == "gpu" or (compute.device == "auto" and gpus >= fewest)
    if use_gpu and gpus < fewest:
        raise ResourcesError(f"compute.num_workers is {fewest} with a GPU each, and there are {gpus}; "
                             "lower it, set compute.device to cpu, or add nodes")
    threads = compute.threads_per_worker or (
        _threads_beside_gpus(nodes) if use_gpu else _threads_of_cores(nodes, compute.most_workers))
    placement = Placement(use_gpu, threads)
    held = sum(node.holds(placement) for node in nodes)
    if held < fewest:
        each = "" if len(nodes) == 1 else f" on {len(nodes)} nodes, which hold {held} such workers"
        raise ResourcesError(f"compute.num_workers is {fewest} with {threads} threads each "
                             f"(compute.threads_per_worker): {threads * fewest} cores, and there are "
                             f"{sum(node.cpus for node in nodes)}{each}; lower one of them or add nodes")
    return placement


def _threads_beside_gpus(nodes: Sequence[Node]) -> int:
    """The cores of a node, shared among its GPUs: those without a worker keep their cores."""
    return min(max(1, node.cpus // node.gpus) for node in nodes if node.gpus)


def _threads_of_cores(nodes: Sequence[Node], most_workers: int) -> int:
    """The most threads that each of `most_workers` workers can have, or each of as many as there are cores."""
    wanted = min(most_workers, sum(node.cpus for node in nodes))
    enough = [threads for threads in range(1, max(node.cpus for node in nodes) + 1)
              if sum(node.holds(Placement(False, threads)) for node in nodes) >= wanted]
    return max(enough, default=1)


def say_gpus_used(compute: ComputeParams, placement: Placement, nodes: Sequence[Node]) -> None:
    """Print how many GPUs the training uses, where the nodes have several."""
    there = sum(node.gpus for node in nodes)
    if there > 1 and compute.device != "cpu":
        used = min(compute.most_workers, there) if placement.use_gpu else 0
        print(f"training on {used} of {there} GPUs (compute.num_workers)", flush=True)
