"""From parameters to a model file: a method that learns is trained under Ray, any other is written as it is."""

from pathlib import Path
from typing import Any

import torch

from matchnet.methods import build_method
from matchnet.model_file import ModelFile, read_model
from pipeline.data.formats.images import preparation_of
from pipeline.data.shards.manifest import manifest_sha256, read_manifest
from pipeline.params import ModelParams, Params
from pipeline.training.data import training_classes
from pipeline.training.initial import take_weights
from pipeline.training.run_log import seconds_spent


def make_model(name: str, params: Params, shards: Path, runs: Path,
               init: Path | None = None, trace: Path | None = None) -> tuple[ModelFile, list[dict[str, Any]]]:
    """The trained model and the lines of its training log (none for a method without training).

    Args:
        init: the file of the model that `models.<name>.init` names.
        trace: where a profile of some of the steps is written, or None for none.
    """
    model = params.models[name]
    if model.training is None:
        return _model_file(name, model, shards, _untrained(model, init, shards), 0, 0.0, init), []
    from pipeline.training.ray_training import run_training  # Ray takes seconds to import

    compute, asked = params.compute_of(name), params.compute.most_workers
    if compute.most_workers < asked:
        print(f"{name}: {compute.most_workers} of the {asked} workers (compute.num_workers) train: a step has nothing "
              "for more of them", flush=True)
    state, log = run_training(name, model, compute, params.cluster, shards, runs, init, trace)
    return _model_file(name, model, shards, state["model"], state["step"], seconds_spent(log), init), log


def _untrained(model: ModelParams, init: Path | None, shards: Path) -> dict[str, torch.Tensor]:
    classes = training_classes(model, shards)
    torch.manual_seed(0)
    method = build_method(model.method, classes.sample_shape, len(classes.names))
    take_weights(method, model, init, shards)
    return method.state_dict()


def _model_file(name: str, model: ModelParams, shards: Path, weights: dict[str, torch.Tensor], step: int,
                seconds: float, init: Path | None) -> ModelFile:
    classes = training_classes(model, shards)
    earlier = sorted(read_model(init).seen_classes) if init else []
    manifest, of_images = read_manifest(shards), len(classes.sample_shape) == 3
    preparation = preparation_of(manifest.parameters, classes.sample_shape) if of_images else None
    return ModelFile(model_name=name, method=model.method, preparation=preparation, sample_shape=classes.sample_shape,
                     num_classes=len(classes.names), state_dict=weights, step=step,
                     seed=model.training.seed if model.training else 0, dataset=manifest.name,
                     dataset_sha256=manifest_sha256(shards), split=model.split, train_classes=classes.names,
                     earlier_classes=earlier, seconds=seconds)
