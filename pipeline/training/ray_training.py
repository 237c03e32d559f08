"""Training under Ray Train, from parameters to weights; started again after any kill, it goes on."""

import posixpath
from pathlib import Path
from typing import Any

from pipeline.training.cluster import place, ray_cluster  # first: it sets what Ray reads when it is imported

from ray.exceptions import RayError  # isort: skip
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig  # isort: skip
from ray.train import TrainingFailedError  # isort: skip
from ray.train.torch import TorchConfig, TorchTrainer  # isort: skip

from pipeline.data.manifest import read_manifest
from pipeline.data.publishing import publish_file, shards_for_nodes
from pipeline.data.selection import groups_of
from pipeline.params import ComputeParams, ModelParams
from pipeline.params.sections import ClusterParams
from pipeline.storage import Place
from pipeline.training.checkpoint import newest_state
from pipeline.training.log_copies import bring_log, following, log_folder
from pipeline.training.run_log import progress_of, read_log
from pipeline.training.runs import only_driver, place_of_run, run_folder
from pipeline.training.worker import WorkerTask, train_on_worker

CHECKPOINTS_KEPT = 2  # the last, and one before it should the last be damaged
RAYS_LIST = "checkpoint_manager_snapshot.json"  # Ray's list of a run's checkpoints


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
            `cluster.max_failures` times, or the cluster itself was lost.
        RunInUseError: another process of this checkout trains this run.
    """
    assert model.training is not None
    folder = run_folder(name, model, compute, shards, runs, init)
    with only_driver(folder):
        run = place_of_run(folder, cluster.storage)
        log = log_folder(run) or folder
        state = newest_state(run.address)
        if state is not None:
            print(f"{name}: goes on from step {state['step']} of {model.training.steps} ({run.address})", flush=True)
        if state is None or state["step"] < model.training.steps:
            with ray_cluster(cluster.ray_address):
                placement = place(compute)
                task = _task(model, init, shards, run, compute, cluster, placement.threads, trace)
                with following(run, folder), progress_of(log, f"training {name}", model.training.steps):
                    error = _fit(task, run, compute.num_workers, placement.use_gpu, cluster.max_failures)
            if error is not None:
                raise TrainingError(f"{name}: {error}")
            state = newest_state(run.address)
            assert state is not None, "the last step ends with a checkpoint"
        bring_log(run, folder)
        return state, read_log(log)


def _task(model: ModelParams, init: Path | None, shards: Path, run: Place, compute: ComputeParams,
          cluster: ClusterParams, threads: int, trace: Path | None) -> WorkerTask:
    """With all that it names where every node sees it."""
    groups = groups_of(read_manifest(shards), model.split, tuple({*model.train_parts, "valid"}))
    init_address = str(init.absolute()) if init is not None else None
    if init is not None and cluster.storage:
        publish_file(init, run / "init.pt")
        init_address = (run / "init.pt").address
    return WorkerTask(model, init_address, shards_for_nodes(shards, cluster.storage), cluster.cache,
                      tuple(sorted(groups)), run.address, threads, compute.precision, cluster.memory_gib,
                      cluster.num_loaders, trace and trace.absolute())


def _forget_rays_list(run: Place) -> None:
    """Ray takes up no run whose list a kill has cut short, or names a checkpoint that was deleted; we need no list."""
    if (run / RAYS_LIST).size() is not None:
        run.filesystem.delete_file((run / RAYS_LIST).path)


def _fit(task: WorkerTask, run: Place, num_workers: int | tuple[int, int], use_gpu: bool,
         max_failures: int) -> str | None:
    """Until the last step; else why there is no use in trying again."""
    _forget_rays_list(run)
    runs, name = posixpath.split(run.path)
    workers: Any = num_workers  # Ray's types are those of its older version, which has neither a range of workers ...
    train_loop: Any = train_on_worker
    trainer = TorchTrainer(
        train_loop,
        train_loop_config={"task": task},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu,
                                     resources_per_worker={"CPU": task.threads} | ({"GPU": 1} if use_gpu else {})),
        run_config=RunConfig(name=name, storage_path=runs, storage_filesystem=run.filesystem,
                             checkpoint_config=CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
                             failure_config=FailureConfig(max_failures=max_failures)))
    try:
        result: Any = trainer.fit()  # ... nor what the train loop returned
    except SystemExit as stop:  # Ray's answer to Ctrl-C, with status 0; an interrupted stage has not succeeded
        raise KeyboardInterrupt from stop
    except TrainingFailedError as error:
        raise TrainingError(f"{name}: {error}\nits state is in {run.address}; "
                            "the same command goes on from there") from error
    except RayError as error:  # of the controller, which watches the workers
        raise TrainingError(f"{name}: the cluster was lost: {error}\nits state is in {run.address}; once the cluster "
                            "runs again, the same command goes on from there") from error
    return result.return_value
