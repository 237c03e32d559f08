"""Training under Ray Train, from parameters to weights; started again after any kill, it goes on."""

import posixpath
import sys
from pathlib import Path
from typing import Any

# First: it sets what Ray reads when it is imported.
from pipeline.cluster.connection import ray_cluster
from pipeline.cluster.placement import Placement, choose_placement, say_what_is_used

from ray.exceptions import RayError  # isort: skip
from ray.train import FailureConfig, RunConfig, ScalingConfig  # isort: skip
from ray.train import TrainingFailedError  # isort: skip
from ray.train.torch import TorchConfig, TorchTrainer  # isort: skip

from matchnet.files import FULL_DISK, atomic_write
from pipeline.data.nodes.upload import shards_for_nodes, upload_file
from pipeline.params import ComputeParams, ModelParams
from pipeline.params.sections import ClusterParams
from pipeline.system.memory import KEEP_FREED_MEMORY
from pipeline.system.storage import Location
from pipeline.training.checkpoint import newest_state, newest_step
from pipeline.training.data import require_classes, require_memory
from pipeline.training.initial import require_method
from pipeline.training.log_copies import bring_logs, following, log_folder
from pipeline.training.run_log import progress_of, read_log
from pipeline.training.runs import RunFiles, location_of_run, only_driver, run_folder, runs_of
from pipeline.training.worker import WorkerSettings, full_disk, train_on_worker
from pipeline.workers.processes import WorkerKilledError

COLLECTIVE_SECONDS = 4 * 3600  # workers wait for one of them that fetches shards to its node


class TrainingError(ValueError):
    """Training ended before its last step; the text says why."""


def run_training(name: str, model: ModelParams, compute: ComputeParams, cluster: ClusterParams,
                 files: RunFiles) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train `model` to its last step, or go on from the last checkpoint of an earlier try.

    Args:
        name: the model's name in params.yaml.
        cluster: its `storage`, if there is one, gets a copy of the shards, and the run's checkpoints.
    Returns:
        (state, log): the last checkpoint's state, and the lines of the run's log.
    Raises:
        ResourcesError: the cluster is too small for `compute`.
        TrainingError: the loss is not finite, the classes cannot serve the episodes, or workers were lost more than
            `cluster.max_failures` times without a checkpoint between them, or the cluster itself was lost.
        RunInUseError: another process of this checkout trains this run.
    """
    assert model.training is not None
    steps, trace = model.training.steps, files.trace
    folder = run_folder(name, model, compute, files)
    require_classes(model, files.shards)
    if cluster.memory_gib is not None:  # else it is a share of each node's
        require_memory(model, files.shards, int(cluster.memory_gib * 2**30))
    with only_driver(folder):
        run = location_of_run(folder, cluster.storage)
        log = log_folder(run) or folder
        state = newest_state(run.address)
        if state is not None:
            print(f"{name}: goes on from step {state['step']} of {steps} ({run})", flush=True)
        else:
            require_method(model, files.init, files.shards)
            name_runs_left_aside(name, folder, cluster.storage)
        if _step(state) < steps:
            with ray_cluster(cluster.ray_address):
                placement = choose_placement(compute)
                settings = _settings(model, compute, cluster, files, run, placement.threads)
                say_what_is_used(compute, placement)
                with following(run, folder), progress_of(log, f"training {name}", steps, _step(state)):
                    while _step(state) < steps:
                        failure = _fit(name, settings, run, compute, placement, cluster.max_failures)
                        state = _later_state(name, run, _step(state), failure, cluster.max_failures)
        bring_logs(run, folder)
        if trace and cluster.storage and (run / trace.name).size() is not None:
            with atomic_write(trace, "wb") as file:
                file.write((run / trace.name).read())
        assert state is not None
        return state, read_log(folder)


def name_runs_left_aside(name: str, folder: Path, storage: str | None) -> None:
    """Print which runs of this model, beside that of `folder`, have a checkpoint."""
    for other in runs_of(name, folder.parent):
        step = newest_step(location_of_run(other, storage)) if other != folder else None
        if step is not None:
            print(f"{name}: begins anew; {other} has come to step {step} with another compute, model or data, "
                  "and goes on if you write those again; it is removed when this run is done", flush=True)


def _step(state: dict[str, Any] | None) -> int:
    return state["step"] if state else 0


def _settings(model: ModelParams, compute: ComputeParams, cluster: ClusterParams, files: RunFiles, run: Location,
              threads: int) -> WorkerSettings:
    """The workers' settings, with all files where every node sees them."""
    groups = files.shards.groups_of(model.split, tuple({*model.train_parts, "valid"}))
    init, trace = (str(file.absolute()) if file is not None else None for file in (files.init, files.trace))
    if files.init is not None and cluster.storage:
        upload_file(files.init, run / "init.pt")
        init = (run / "init.pt").address
    if files.trace is not None and cluster.storage:
        trace = (run / files.trace.name).address
    return WorkerSettings(model=model, init=init, shards=shards_for_nodes(files.shards, cluster.storage),
                          cache=cluster.cache, groups=tuple(sorted(groups)), run=run.address, threads=threads,
                          precision=compute.precision, compile=compute.compile, memory_gib=cluster.memory_gib,
                          num_loaders=cluster.num_loaders, trace=trace)


def _fit(name: str, settings: WorkerSettings, run: Location, compute: ComputeParams, placement: Placement,
         max_failures: int) -> Exception | None:
    """Train until the last step, or until workers were lost too often: then the failure is returned.

    Raises:
        TrainingError: there is no use in trying again.
    """
    runs, folder = posixpath.split(run.path)
    use_gpu = placement.use_gpu
    workers: Any = compute.num_workers  # Ray's types are those of an older version, without a range of workers ...
    train_loop: Any = train_on_worker
    environment: Any = {"worker_runtime_env": {"env_vars": KEEP_FREED_MEMORY}}  # ... or an environment of the workers
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={"settings": settings},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo", timeout_s=COLLECTIVE_SECONDS),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu,
                                     resources_per_worker={"CPU": settings.threads} | ({"GPU": 1} if use_gpu else {})),
        run_config=RunConfig(name=folder, storage_path=runs, storage_filesystem=run.filesystem,
                             failure_config=FailureConfig(max_failures=max_failures), **environment))
    try:
        result: Any = trainer.fit()  # Ray's types know nothing of what the train loop returned
    except SystemExit as stop:  # Ray's answer to Ctrl-C, with status 0; an interrupted stage has not succeeded
        raise KeyboardInterrupt from stop
    except TrainingFailedError as failure:
        return failure
    except RayError as error:  # an error of the controller, which watches the workers
        raise TrainingError(f"{name}: the cluster was lost, or cannot do what is asked of it: {error}\nits state is in "
                            f"{run}; the same command goes on from there") from error
    if result.return_value is not None:
        raise TrainingError(f"{name}: {result.return_value}; its state is in {run}")
    return None


def _later_state(name: str, run: Location, step: int, failure: Exception | None, max_failures: int) -> dict[str, Any]:
    """A state after that of `step`: the last, unless workers were lost or the last is damaged.

    Raises:
        TrainingError: there is none, or no use in trying again.
    """
    later = newest_state(run.address)
    if full := _full_disk(failure):
        raise TrainingError(f"{name}: {full}; its state is in {run}") from failure
    if later is None or later["step"] <= step:
        reason = _killed(failure) or failure or "its last checkpoint cannot be read"
        raise TrainingError(f"{name}: {reason}\nits state is in "
                            f"{run}; the same command goes on from there") from failure
    if failure is not None:
        print(f"workers were lost more than {max_failures} times (cluster.max_failures), but it came from step "
              f"{step} to {later['step']}, and goes on", file=sys.stderr, flush=True)
    return later


def _full_disk(failure: Exception | None) -> str:
    """A worker's error of a full disk, after which another try is of no use; "" if the reason was another one."""
    return next((full_disk(error) for error in _worker_errors(failure)
                 if isinstance(error, OSError) and error.errno in FULL_DISK), "")


def _killed(failure: Exception | None) -> str:
    """What a worker says of a process of its own that was killed; "" if the reason was another one."""
    return next((str(error.strerror) for error in _worker_errors(failure) if isinstance(error, WorkerKilledError)), "")


def _worker_errors(failure: Exception | None) -> list[Exception]:
    return [getattr(error, "_base_exc", error) for error in getattr(failure, "worker_failures", {}).values()]
