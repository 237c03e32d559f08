"""A training from parameters to weights; started again after any kill, it goes on."""

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from matchnet.files import atomic_write
from pipeline.data.nodes.upload import shards_for_nodes, upload_file
from pipeline.params import ComputeParams, ModelParams
from pipeline.params.sections import ClusterParams
from pipeline.system.storage import Location
from pipeline.training.checkpoint import newest_state, newest_step
from pipeline.training.data import require_classes, require_memory
from pipeline.training.errors import TrainingError, WorkersLostError
from pipeline.training.initial import require_method
from pipeline.training.local_training import LocalWorker
from pipeline.training.log_copies import bring_logs, following, log_folder
from pipeline.training.run_log import progress_of, read_log
from pipeline.training.runs import RunFiles, location_of_run, only_driver, run_folder, runs_of
from pipeline.training.worker import TrainingWorkers, WorkerSettings


def run_training(name: str, model: ModelParams, compute: ComputeParams, cluster: ClusterParams,
                 files: RunFiles) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train `model` to its last step, or go on from the last checkpoint of an earlier try.

    Args:
        name: the model's name in params.yaml.
        cluster: its `storage`, if there is one, gets a copy of the shards, and the run's checkpoints.
    Returns:
        (state, log): the last checkpoint's state, and the lines of the run's log.
    Raises:
        ResourcesError: the machine or the cluster is too small for `compute`.
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
        state = newest_state(run)
        if state is not None:
            print(f"{name}: goes on from step {state['step']} of {steps} ({run})", flush=True)
        else:
            require_method(model, files.init, files.shards)
            name_runs_left_aside(name, folder, cluster.storage)
        if _step(state) < steps:
            with workers_for(compute, cluster) as workers:
                settings = _settings(model, compute, cluster, files, run, workers.threads)
                with following(run, folder), progress_of(log, f"training {name}", steps, _step(state)):
                    while _step(state) < steps:
                        state = _later_state(name, workers, settings, run, _step(state), cluster.max_failures)
        bring_logs(run, folder)
        if trace and cluster.storage and (run / trace.name).size() is not None:
            with atomic_write(trace, "wb") as file:
                file.write((run / trace.name).read())
        assert state is not None
        return state, read_log(folder)


def workers_for(compute: ComputeParams, cluster: ClusterParams) -> AbstractContextManager[TrainingWorkers]:
    """One worker of this machine where that is all that is asked for; else the workers of a Ray cluster."""
    if cluster.ray_address is None and compute.most_workers == 1:
        return nullcontext(LocalWorker(compute))
    from pipeline.training.ray_training import ray_workers  # Ray takes seconds to import

    return ray_workers(compute, cluster.ray_address)


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


def _later_state(name: str, workers: TrainingWorkers, settings: WorkerSettings, run: Location, step: int,
                 max_failures: int) -> dict[str, Any]:
    """Train from `step` on; a state after it: the last, unless workers were lost too often, or the last is damaged.

    Raises:
        TrainingError: there is no later state, or no use in trying again.
    """
    lost = None
    try:
        workers.fit(settings, max_failures)
    except WorkersLostError as error:
        lost = error
    except TrainingError as error:
        raise TrainingError(f"{name}: {error}; its state is in {run}") from error
    later = newest_state(run)
    if later is None or later["step"] <= step:
        raise TrainingError(f"{name}: {lost or 'its last checkpoint cannot be read'}\nits state is in "
                            f"{run}; the same command goes on from there") from lost
    if lost is not None:
        print(f"workers were lost more than {max_failures} times (cluster.max_failures), but it came from step "
              f"{step} to {later['step']}, and goes on", file=sys.stderr, flush=True)
    return later
