"""Training under Ray Train, from parameters to weights; started again after any kill, it goes on."""

import posixpath
import sys
from pathlib import Path
from typing import Any

# First: it sets what Ray reads when it is imported.
from pipeline.cluster.connection import choose_placement, ray_cluster, say_what_is_used

from ray.exceptions import RayError  # isort: skip
from ray.train import FailureConfig, RunConfig, ScalingConfig  # isort: skip
from ray.train import TrainingFailedError  # isort: skip
from ray.train.torch import TorchConfig, TorchTrainer  # isort: skip

from matchnet.files import FULL_DISK, atomic_write
from pipeline.data.nodes.upload import shards_for_nodes, upload_file
from pipeline.data.shards.manifest import read_manifest
from pipeline.data.shards.selection import groups_of
from pipeline.params import ComputeParams, ModelParams
from pipeline.params.sections import ClusterParams
from pipeline.system.memory import KEEP_FREED_MEMORY
from pipeline.system.storage import Location
from pipeline.training.checkpoint import newest_state, newest_step
from pipeline.training.data import require_classes
from pipeline.training.log_copies import bring_logs, following, log_folder
from pipeline.training.run_log import progress_of, read_log
from pipeline.training.runs import location_of_run, only_driver, run_folder, runs_of
from pipeline.training.worker import WorkerSettings, train_on_worker

COLLECTIVE_SECONDS = 4 * 3600  # workers wait for one of them that fetches shards to its node


class TrainingError(ValueError):
    """Training ended before its last step; the text says why."""


def run_training(name: str, model: ModelParams, compute: ComputeParams, cluster: ClusterParams,
                 shards: Path, runs: Path, init: Path | None = None,
                 trace: Path | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train `model` to its last step, or go on from the last checkpoint of an earlier try.

    Args:
        name: the model's name in params.yaml.
        cluster: its `storage`, if there is one, gets a copy of the shards, and the run's checkpoints.
        shards: the dataset's folder of shards; every node sees it under this path unless there is a storage.
        init: the file of the model that `model.init` names; seen as the shards are.
        runs: where folders of unfinished runs lie, one a set of parameters; `forget_runs` removes them.
        trace: where rank 0 writes a profile of some of the steps; see pipeline.training.profiling.
    Returns:
        (state, log): the last checkpoint's state, and the lines of the run's log.
    Raises:
        ResourcesError: the cluster is too small for `compute`.
        TrainingError: the loss is not finite, the classes cannot serve the episodes, or workers were lost more than
            `cluster.max_failures` times without a checkpoint between them, or the cluster itself was lost.
        RunInUseError: another process of this checkout trains this run.
    """
    assert model.training is not None
    folder = run_folder(name, model, compute, shards, runs, init)
    require_classes(model, shards)
    with only_driver(folder):
        run = location_of_run(folder, cluster.storage)
        log = log_folder(run) or folder
        state = newest_state(run.address)
        if state is not None:
            print(f"{name}: goes on from step {state['step']} of {model.training.steps} ({run})", flush=True)
        else:
            name_runs_left_aside(name, folder, cluster.storage)
        if _step(state) < model.training.steps:
            with ray_cluster(cluster.ray_address):
                placement = choose_placement(compute)
                settings = _settings(model, init, shards, run, compute, cluster, placement.threads, trace)
                say_what_is_used(compute, placement)
                with (following(run, folder),
                      progress_of(log, f"training {name}", model.training.steps, _step(state))):
                    while _step(state) < model.training.steps:
                        state = _fit(name, settings, run, compute.num_workers, placement.use_gpu, cluster.max_failures,
                                     _step(state))
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


def _settings(model: ModelParams, init: Path | None, shards: Path, run: Location, compute: ComputeParams,
          cluster: ClusterParams, threads: int, trace: Path | None) -> WorkerSettings:
    """With all that it names where every node sees it."""
    groups = groups_of(read_manifest(shards), model.split, tuple({*model.train_parts, "valid"}))
    init_address = str(init.absolute()) if init is not None else None
    if init is not None and cluster.storage:
        upload_file(init, run / "init.pt")
        init_address = (run / "init.pt").address
    return WorkerSettings(model, init_address, shards_for_nodes(shards, cluster.storage), cluster.cache,
                      tuple(sorted(groups)), run.address, threads, compute.precision, compute.compile,
                      cluster.memory_gib, cluster.num_loaders, _trace_for_nodes(trace, run, cluster.storage))


def _trace_for_nodes(trace: Path | None, run: Location, storage: str | None) -> str | None:
    if trace is None:
        return None
    return (run / trace.name).address if storage else str(trace.absolute())


def _full_disk(failure: Exception | None) -> str:
    """What a worker said of a full disk, of which there is no use in trying again; "" if that was not the reason."""
    errors = (getattr(error, "_base_exc", error) for error in getattr(failure, "worker_failures", {}).values())
    return next((error.strerror for error in errors if isinstance(error, OSError) and error.errno in FULL_DISK
                 and error.strerror), "")


def _fit(name: str, settings: WorkerSettings, run: Location, num_workers: int | tuple[int, int], use_gpu: bool,
         max_failures: int, step: int) -> dict[str, Any]:
    """From the state of `step` to a later one: the last, unless workers were lost or the last is damaged.

    Raises:
        TrainingError: there is no later one, or no use in trying again.
    """
    runs, folder = posixpath.split(run.path)
    workers: Any = num_workers  # Ray's types are those of its older version, which has neither a range of workers ...
    train_loop: Any = train_on_worker
    environment: Any = {"worker_runtime_env": {"env_vars": KEEP_FREED_MEMORY}}  # ... nor an environment of theirs ...
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={"settings": settings},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo", timeout_s=COLLECTIVE_SECONDS),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu,
                                     resources_per_worker={"CPU": settings.threads} | ({"GPU": 1} if use_gpu else {})),
        run_config=RunConfig(name=folder, storage_path=runs, storage_filesystem=run.filesystem,
                             failure_config=FailureConfig(max_failures=max_failures), **environment))
    failure: Exception | None = None
    try:
        result: Any = trainer.fit()  # ... nor what the train loop returned
        if result.return_value is not None:
            raise TrainingError(f"{name}: {result.return_value}")
    except SystemExit as stop:  # Ray's answer to Ctrl-C, with status 0; an interrupted stage has not succeeded
        raise KeyboardInterrupt from stop
    except TrainingFailedError as error:
        failure = error
    except RayError as error:  # of the controller, which watches the workers
        raise TrainingError(f"{name}: the cluster was lost, or cannot do what is asked of it: {error}\nits state is in "
                            f"{run}; the same command goes on from there") from error
    later = newest_state(run.address)
    if full := _full_disk(failure):
        raise TrainingError(f"{name}: {full}; its state is in {run}") from failure
    if later is None or later["step"] <= step:
        raise TrainingError(f"{name}: {failure or 'its last checkpoint cannot be read'}\nits state is in "
                            f"{run}; the same command goes on from there") from failure
    if failure is not None:
        print(f"workers were lost more than {max_failures} times (cluster.max_failures), but it came from step "
              f"{step} to {later['step']}, and goes on", file=sys.stderr, flush=True)
    return later
