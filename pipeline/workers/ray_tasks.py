"""One function over many tasks on the nodes of a Ray cluster, as pipeline.workers.processes does on one machine.

A task is a Ray task: if its process or node is lost, it is run again elsewhere, and nodes that join take part.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

# first: it sets what Ray reads when it is imported
from pipeline.cluster.connection import ray_cluster
from pipeline.cluster.nodes import nodes_of_cluster, require_node, say_waiting

import ray  # isort: skip
from ray.exceptions import RayError, RayTaskError  # isort: skip

from matchnet.messages import said
from pipeline.cluster.placement import choose_placement
from pipeline.data.nodes.upload import shards_for_nodes
from pipeline.data.shards.folder import ShardFolder
from pipeline.evaluate.on_workers import Workers
from pipeline.params import ComputeParams
from pipeline.params.sections import ClusterParams
from pipeline.workers.processes import Result, RunTasks, Task, WorkerKilledError, close_if_possible

TRIES = 4
AT_ONCE = 1000  # tasks that are given to Ray before one of them is finished
SECONDS_WITHOUT_A_WORD = 10

_state: dict[str, Any] = {}  # state of this worker process: the last result of `start`, and its call


@contextmanager
def cluster_tasks(cluster: ClusterParams) -> Iterator[RunTasks]:
    """Tasks of one core each on the cluster at `cluster.ray_address`, `cluster.num_processes` of them at once."""
    with ray_cluster(cluster.ray_address):
        yield partial(run_tasks, at_once=cluster.num_processes or AT_ONCE)


@contextmanager
def cluster_workers(cluster: ClusterParams, compute: ComputeParams, shards: ShardFolder) -> Iterator[Workers]:
    """Workers for an evaluation on the cluster at `cluster.ray_address`: sized as in training, as many as it holds.

    Raises:
        ResourcesError: the cluster is too small for `compute`.
        StorageError: the shards cannot be copied where all nodes see them.
    """
    with ray_cluster(cluster.ray_address):
        placement = choose_placement(compute, nodes_of_cluster())
        run = partial(run_tasks, needs=Needs(placement.threads, int(placement.use_gpu),
                                             "set compute.threads_per_worker higher, so that fewer share a node"))
        yield Workers(run, shards_for_nodes(shards, cluster.storage), cluster.cache,
                      "cuda" if placement.use_gpu else "cpu", placement.threads)


class Needs(NamedTuple):
    """Cores and GPUs that a task takes of its node; and which parameter to change if its workers are lost."""

    cpus: int = 1
    gpus: int = 0
    remedy: str = "set cluster.num_processes lower"


ONE_CORE = Needs()


def run_tasks(start: Callable, start_args: tuple, work: Callable[..., Result], tasks: Sequence[Task], *,
              needs: Needs = ONE_CORE, at_once: int = AT_ONCE) -> Iterator[tuple[Task, Result]]:
    """Run tasks as `RunTasks` says; call it inside a `ray_cluster`.

    Raises:
        ResourcesError: no node of the cluster is large enough for a task.
        WorkerKilledError: a task lost its worker TRIES times, or the cluster cannot run tasks any more.
        Exception: the first that `start` or `work` raises.
    """
    if not tasks:
        return
    try:
        yield from _results(start, start_args, work, tasks, needs, at_once)
    except RayError as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if not isinstance(cause, RayError):
            raise cause from None
        raise WorkerKilledError(
            errno.ECHILD, f"the cluster lost the worker of a task {TRIES} times (out of memory?), or cannot run tasks "
            f"any more: {said(cause)}; {needs.remedy}, or add memory, and run the same command again") from error


def _results(start: Callable, start_args: tuple, work: Callable[..., Result], tasks: Sequence[Task], needs: Needs,
             at_once: int) -> Iterator[tuple[Task, Result]]:
    """`run_tasks`, with Ray's own errors."""
    cpus, gpus, _ = needs
    require_node(cpus, gpus)
    started = ray.put((start, start_args))  # fetched once a worker
    send = _work.options(num_cpus=cpus, num_gpus=gpus).remote
    left = iter(tasks)
    waiting: dict[ray.ObjectRef, Task] = {}
    room = _nothing.options(num_cpus=cpus, num_gpus=gpus).remote()
    try:
        if not ray.wait([room], timeout=SECONDS_WITHOUT_A_WORD)[0]:
            say_waiting({"CPU": cpus} | ({"GPU": gpus} if gpus else {}))
        while True:
            for task in islice(left, at_once - len(waiting)):
                waiting[send([started], work, task)] = task
            if not waiting:
                return
            [done], _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(done), ray.get(done)
    finally:
        for reference in (room, *waiting):
            ray.cancel(reference, force=True)


@ray.remote(scheduling_strategy="SPREAD")
def _nothing() -> None:
    """A probe as large as a task: while it waits for room, no task could run either."""


@ray.remote(max_retries=TRIES - 1, scheduling_strategy="SPREAD")
def _work(started: list[ray.ObjectRef], work: Callable, task: object) -> Any:
    """`started` is in a list, so that Ray does not fetch it for each task."""
    if _state.get("call") != started[0].hex():
        close_if_possible(_state.get("started"))
        _state.clear()
        start, start_args = ray.get(started[0])
        _state.update(call=started[0].hex(), started=start(*start_args))
    return work(_state["started"], task)
