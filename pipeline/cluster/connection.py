"""Ray for the length of a block: a cluster that runs already, or a local one that ends with the block."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pipeline.cluster.ray_environment  # noqa: F401  # isort: skip

import ray
from ray.exceptions import RayError

from pipeline.cluster.access import TOKEN_FILE, has_token, warn_of_open_cluster
from pipeline.cluster.head import NoHeadError, asks_for_token, ending_with_head
from pipeline.cluster.local_ray import local_ray, sigterm_kept
from pipeline.params import ComputeParams
from pipeline.system.machine import cores
from pipeline.system.progress import say

FOUND_BY_RAY = "auto"  # an address that stands for the cluster that runs on this machine


class ResourcesError(ValueError):
    """The cluster cannot hold the workers that the parameters ask for."""


@dataclass(frozen=True)
class Placement:
    """What each worker gets."""

    use_gpu: bool
    threads: int


@contextmanager
def ray_cluster(address: str | None, num_cpus: int | None = None) -> Iterator[None]:
    """Connect to `address`, or start Ray here if it is None; inside such a block, use what is connected.

    Of a Ray started here nothing is left after the block; its logs are kept where RAY_TMPDIR names a folder for them.
    A cluster whose head goes away later ends this process; see `ending_with_head`.

    Args:
        num_cpus: what a Ray started here may use; None is every core.
    Raises:
        ResourcesError: there is no cluster at `address`, this machine is no node of it, or it asks for another token.
    """
    if ray.is_initialized():
        yield
        return
    with local_ray(num_cpus or cores()) if address is None else _joined(address):
        yield


@contextmanager
def _joined(address: str) -> Iterator[None]:
    if "://" in address:
        raise ResourcesError(f"the cluster's address (RAY_ADDRESS, cluster.ray_address) is {address}; a stage joins a "
                             "cluster at the host and port of its head, such as 10.0.0.1:6379")
    if address != FOUND_BY_RAY:
        _ask(address)  # Ray itself would ask for minutes
    try:
        try:
            with sigterm_kept():
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, RayError) as error:
            raise ResourcesError(f"no Ray cluster at {address}, or this machine is no node of it: {error}; start Ray "
                                 "here, or send the command as a job (python -m pipeline.submit)") from error
        head = ray.get_runtime_context().gcs_address
        if not _ask(head):
            warn_of_open_cluster(head)
        with ending_with_head(head):
            yield
    finally:
        ray.shutdown()  # also one that Ctrl-C has stopped half-way


def _ask(address: str) -> bool:
    """Whether the head asks for a token; ResourcesError if there is none, or it asks and we have no token."""
    try:
        asks = asks_for_token(address)
    except NoHeadError as error:
        raise ResourcesError(f"no Ray cluster answers at {address} (RAY_ADDRESS, cluster.ray_address): {error}; check "
                             "the address, and that Ray runs there (ray start --head); without an address a stage "
                             "starts Ray on this machine") from error
    if asks and not has_token(os.environ):
        raise ResourcesError(f"the Ray cluster at {address} asks for a token, and there is none here: put that of its "
                             f"head into {TOKEN_FILE} or RAY_AUTH_TOKEN")
    return asks


def choose_placement(compute: ComputeParams) -> Placement:
    """Decide device and threads of the workers from what the connected cluster has; a worker's threads are of one node.

    Of a range of workers, the threads are those that as many as there is room for now can have.

    Raises:
        ResourcesError: it has not enough; without this check Ray would wait for ever.
    """
    cpus, gpus = _of_each_node()
    fewest = compute.fewest_workers
    use_gpu = compute.device == "gpu" or (compute.device == "auto" and sum(gpus) >= fewest)
    if use_gpu and sum(gpus) < fewest:
        raise ResourcesError(f"compute.num_workers is {fewest} with a GPU each, and the cluster has {sum(gpus)}; "
                             "lower it, set compute.device to cpu, or add nodes")

    def places(threads: int) -> int:
        return sum(min(cpu // threads, gpu) if use_gpu else cpu // threads for cpu, gpu in zip(cpus, gpus, strict=True))

    if use_gpu:  # the other GPUs of a node keep their cores
        enough = [min(max(1, cpu // gpu) for cpu, gpu in zip(cpus, gpus, strict=True) if gpu)]
    else:
        wanted = min(compute.most_workers, places(1))
        enough = [threads for threads in range(1, max(cpus) + 1) if places(threads) >= wanted]
    threads = compute.threads_per_worker or max(enough, default=1)
    if places(threads) < fewest:
        each = "" if len(cpus) == 1 else f" on {len(cpus)} nodes, which hold {places(threads)} such workers"
        raise ResourcesError(f"compute.num_workers is {fewest} with {threads} threads each "
                             f"(compute.threads_per_worker): {threads * fewest} cores, and the cluster has "
                             f"{sum(cpus)}{each}; lower one of them or add nodes")
    return Placement(use_gpu, threads)


def require_node(cpus: int, gpus: int) -> None:
    """Raises ResourcesError unless one node of the connected cluster has so many; see `choose_placement`."""
    there = _of_each_node()
    if not any(cpu >= cpus and gpu >= gpus for cpu, gpu in zip(*there, strict=True)):
        most = [max(counts, default=0) for counts in there]
        raise ResourcesError(f"a task needs {cpus} CPUs and {gpus} GPUs of one node, and none of the cluster's "
                             f"{len(there[0])} has them: the most are {most[0]} CPUs and {most[1]} GPUs; add a node "
                             "that has (ray start --num-cpus, --num-gpus)")


def say_waiting(needed: Mapping[str, int]) -> None:
    """For `{"CPU": 2}`; and what of that other work leaves free now. Ray itself waits without a word."""
    wanted, free = (" and ".join(f"{count} {kind}s" for kind, count in counts.items())
                    for counts in (needed, {kind: _free(kind) for kind in needed}))
    say(f"waiting for {wanted} of the cluster, which has {free} free now")


def say_what_is_used(compute: ComputeParams, placement: Placement) -> None:
    """How many GPUs; and what is waited for."""
    kind, each = ("GPU", 1) if placement.use_gpu else ("CPU", placement.threads)
    there = int(ray.cluster_resources().get("GPU", 0))
    if there > 1 and compute.device != "cpu":
        used = min(compute.most_workers, there) if placement.use_gpu else 0
        print(f"training on {used} of {there} GPUs (compute.num_workers)", flush=True)
    if _free(kind) < (needed := compute.fewest_workers * each):
        say_waiting({kind: needed})


def _of_each_node() -> tuple[list[int], list[int]]:
    """CPUs and GPUs."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [int(node.get("CPU", 0)) for node in nodes], [int(node.get("GPU", 0)) for node in nodes]


def _free(kind: str) -> int:
    return int(ray.available_resources().get(kind, 0))
