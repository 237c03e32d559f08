"""Ray for the length of a block: a cluster that runs already, or a local one that ends with the block."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before Ray is imported: workers and controller take these from the driver's environment.
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # at such a look a worker's end is seen; 2 s without this
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_events_report_interval_ms": "0",  # of each look at the workers Ray kept a record: 36 MiB an hour
    "RAY_worker_niceness": "0",  # 15 without this: on a busy machine workers then hardly run at all
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave CUDA_VISIBLE_DEVICES of processes without a GPU as it is
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402

from pipeline.machine import cores  # noqa: E402
from pipeline.params import ComputeParams  # noqa: E402
from pipeline.progress import say  # noqa: E402

OBJECT_STORE_BYTES = 80 * 2**20  # near Ray's least: nothing large goes through it
LONGEST_TEMPORARY_FOLDER = 30  # characters: the paths of Ray's sockets begin with it, and may have 107
END_SECONDS = 10


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

    Args:
        num_cpus: what a Ray started here may use; None is every core.
    Raises:
        ResourcesError: there is no cluster at `address`, or this machine is no node of it.
    """
    if ray.is_initialized():
        yield
        return
    with nullcontext() if address else _own_folder():
        try:
            _connect(address, num_cpus)
            yield
        finally:
            ray.shutdown()  # also one that Ctrl-C has stopped half-way


def _connect(address: str | None, num_cpus: int | None) -> None:
    here: dict[str, Any] = {"num_cpus": num_cpus or cores(), "include_dashboard": False,
                            "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.WARNING,
                 **({} if address else here))
    except (ConnectionError, RuntimeError) as error:
        if address is None:
            raise
        raise ResourcesError(f"no Ray cluster at {address}, or this machine is no node of it: {error}; start Ray here, "
                             "or send the command as a job (python -m pipeline.submit)") from error


@contextmanager
def _own_folder() -> Iterator[None]:
    """Ray's sessions, and temporary files of all processes that it starts, lie in a folder that goes with the block."""
    if "RAY_TMPDIR" in os.environ:
        yield
        return
    default = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="ray", dir=default if len(default) <= LONGEST_TEMPORARY_FOLDER else "/tmp")
    kept = os.environ.get("TMPDIR")
    os.environ |= {"RAY_TMPDIR": folder, "TMPDIR": folder}
    try:
        yield
    finally:
        del os.environ["RAY_TMPDIR"], os.environ["TMPDIR"]
        if kept is not None:
            os.environ["TMPDIR"] = kept
        _remove(folder)


def _remove(folder: str) -> None:
    """Workers may still be ending and write a last line."""
    deadline = time.monotonic() + END_SECONDS
    while Path(folder).exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def place(compute: ComputeParams) -> Placement:
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
    """Raises ResourcesError unless one node of the connected cluster has so many; see `place`."""
    there = _of_each_node()
    if not any(cpu >= cpus and gpu >= gpus for cpu, gpu in zip(*there, strict=True)):
        most = [max(counts, default=0) for counts in there]
        raise ResourcesError(f"a job needs {cpus} CPUs and {gpus} GPUs of one node, and none of the cluster's "
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
