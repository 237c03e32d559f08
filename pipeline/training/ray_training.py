"""Training by the workers of a Ray cluster, under Ray Train: on one node or many, also while nodes come and go."""

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# First: it sets what Ray reads when it is imported.
from pipeline.cluster.connection import ray_cluster

import ray.train  # isort: skip
from ray.exceptions import RayError  # isort: skip
from ray.train import FailureConfig, RunConfig, ScalingConfig  # isort: skip
from ray.train import TrainingFailedError  # isort: skip
from ray.train.torch import TorchConfig, TorchTrainer, get_device  # isort: skip

from matchnet.files import FULL_DISK
from matchnet.training import Worker
from pipeline.cluster.nodes import nodes_of_cluster, say_if_waiting
from pipeline.cluster.placement import Placement, choose_placement, say_gpus_used
from pipeline.params import ComputeParams
from pipeline.system.memory import KEEP_FREED_MEMORY
from pipeline.system.storage import location_of
from pipeline.training.errors import TrainingError, WorkersLostError, full_disk
from pipeline.training.worker import TrainingWorkers, WorkerSettings, train_on_worker
from pipeline.workers.processes import WorkerKilledError

COLLECTIVE_SECONDS = 4 * 3600  # workers wait for one of them that fetches shards to its node


@contextmanager
def ray_workers(compute: ComputeParams, address: str | None) -> Iterator[TrainingWorkers]:
    """The workers of the cluster at `address`, or of a Ray that is started on this machine if it is None.

    Raises:
        ResourcesError: there is no such cluster, or it is too small for `compute`.
    """
    with ray_cluster(address):
        nodes = nodes_of_cluster()
        placement = choose_placement(compute, nodes)
        say_gpus_used(compute, placement, nodes)
        say_if_waiting(compute, placement)
        yield RayWorkers(compute, placement)


class RayWorkers(TrainingWorkers):
    """Workers of the connected cluster."""

    def __init__(self, compute: ComputeParams, placement: Placement) -> None:
        self.threads, self.use_gpu = placement.threads, placement.use_gpu
        self.num_workers = compute.num_workers

    def fit(self, settings: WorkerSettings, max_failures: int) -> None:
        run = location_of(settings.run)
        runs, folder = posixpath.split(run.path)
        workers: Any = self.num_workers  # Ray's types are those of an older version, without a range of workers ...
        train_loop: Any = _train_loop
        environment: Any = {"worker_runtime_env": {"env_vars": KEEP_FREED_MEMORY}}  # ... or their environment
        resources = {"CPU": self.threads} | ({"GPU": 1} if self.use_gpu else {})
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={"settings": settings},
            torch_config=TorchConfig(backend="nccl" if self.use_gpu else "gloo", timeout_s=COLLECTIVE_SECONDS),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=self.use_gpu, resources_per_worker=resources),
            run_config=RunConfig(name=folder, storage_path=runs, storage_filesystem=run.filesystem,
                                 failure_config=FailureConfig(max_failures=max_failures), **environment))
        try:
            result: Any = trainer.fit()  # Ray's types know nothing of what the train loop returned
        except SystemExit as stop:  # Ray's answer to Ctrl-C, with status 0; an interrupted stage has not succeeded
            raise KeyboardInterrupt from stop
        except TrainingFailedError as failure:
            raise _explained(failure) from failure
        except RayError as error:  # an error of the controller, which watches the workers
            raise TrainingError(f"the cluster was lost, or cannot do what is asked of it: {error}\nthe same command "
                                "goes on from the last checkpoint") from error
        if result.return_value is not None:
            raise TrainingError(result.return_value)


def _train_loop(config: dict[str, WorkerSettings]) -> str | None:
    """The loop that Ray runs in each of its workers."""
    context = ray.train.get_context()
    worker = Worker(rank=context.get_world_rank(), world_size=context.get_world_size(), device=get_device())
    return train_on_worker(config["settings"], worker, ray.get_runtime_context().get_node_id(),
                           context.get_local_world_size())


def _explained(failure: TrainingFailedError) -> TrainingError | WorkersLostError:
    """The error of workers that were lost too often; with a full disk, another try is of no use."""
    errors = [getattr(error, "_base_exc", error) for error in getattr(failure, "worker_failures", {}).values()]
    for error in errors:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            return TrainingError(full_disk(error))
    killed = next((error.strerror for error in errors if isinstance(error, WorkerKilledError)), None)
    return WorkersLostError(killed or str(failure))
