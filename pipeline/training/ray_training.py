"""Training under Ray Train, from parameters to weights; started again after any kill, it goes on."""

from pathlib import Path
from typing import Any

from pipeline.training.cluster import place, ray_cluster  # first: it sets what Ray reads when it is imported

from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig  # isort: skip
from ray.train import TrainingFailedError  # isort: skip
from ray.train.torch import TorchConfig, TorchTrainer  # isort: skip

from pipeline.params import ComputeParams, ModelParams
from pipeline.params.sections import ClusterParams
from pipeline.training.checkpoint import newest_state
from pipeline.training.run_log import progress_of, read_log
from pipeline.training.runs import run_folder
from pipeline.training.worker import WorkerTask, train_on_worker

CHECKPOINTS_KEPT = 2  # the last, and one before it should the last be damaged


class TrainingError(ValueError):
    """Training ended before its last step; the text says why."""


def run_training(name: str, model: ModelParams, compute: ComputeParams, cluster: ClusterParams,
                 shards: Path, runs: Path, init: Path | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train `model` to its last step, or go on from the last checkpoint of an earlier try.

    Args:
        name: the model's name in params.yaml.
        shards: the dataset's folder of shards; every node sees it under this path.
        init: the file of the model that `model.init` names.
        runs: where folders of unfinished runs lie, one a set of parameters; `forget_runs` removes them.
    Returns:
        (state, log): the last checkpoint's state, and the lines of the run's log.
    Raises:
        ResourcesError: the cluster is too small for `compute`.
        TrainingError: the loss is not finite, the classes cannot serve the episodes, or workers were lost more than
            `cluster.max_failures` times.
    """
    assert model.training is not None
    folder = run_folder(name, model, compute, shards, runs, init)
    folder.mkdir(parents=True, exist_ok=True)
    state = newest_state(folder)
    if state is not None:
        print(f"{name}: goes on from step {state['step']} of {model.training.steps} ({folder})", flush=True)
    if state is None or state["step"] < model.training.steps:
        with ray_cluster(cluster.ray_address), progress_of(folder, f"training {name}", model.training.steps):
            placement = place(compute)
            task = WorkerTask(model, init and init.absolute(), shards.absolute(), folder, placement.threads,
                              compute.precision, cluster.memory_gib, cluster.num_loaders)
            _fit(task, compute.num_workers, placement.use_gpu, cluster.max_failures)
        state = newest_state(folder)
    log = read_log(folder)
    if state is None or state["step"] < model.training.steps:
        raise TrainingError(f"{name}: {log[-1]['error']}")
    return state, log


def _fit(task: WorkerTask, num_workers: int, use_gpu: bool, max_failures: int) -> None:
    trainer = TorchTrainer(
        train_on_worker,
        train_loop_config={"task": task},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu,
                                     resources_per_worker={"CPU": task.threads} | ({"GPU": 1} if use_gpu else {})),
        run_config=RunConfig(name=task.run_folder.name, storage_path=str(task.run_folder.parent),
                             checkpoint_config=CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
                             failure_config=FailureConfig(max_failures=max_failures)))
    try:
        trainer.fit()
    except SystemExit as stop:  # Ray's answer to Ctrl-C, with status 0; an interrupted stage has not succeeded
        raise KeyboardInterrupt from stop
    except TrainingFailedError as error:
        raise TrainingError(f"{task.run_folder.name}: {error}\nits state is in {task.run_folder}; "
                            "the same command goes on from there") from error
