"""From parameters to a model file: a method that learns is trained, any other is written as it is."""

from typing import Any

import torch

from matchnet.methods import build_method
from matchnet.model_file import ModelFile, read_model
from pipeline.data.formats.images import preparation_of
from pipeline.params import ModelParams, Params
from pipeline.training.data import training_classes
from pipeline.training.driver import run_training
from pipeline.training.initial import take_weights
from pipeline.training.run_log import seconds_spent
from pipeline.training.runs import RunFiles


def make_model(name: str, params: Params, files: RunFiles) -> tuple[ModelFile, list[dict[str, Any]]]:
    """The trained model and the lines of its training log (none for a method without training)."""
    model = params.models[name]
    if model.training is None:
        return _model_file(name, model, files, {"model": _untrained(model, files), "step": 0}, 0.0), []
    compute, asked = params.compute_of(name), params.compute.most_workers
    if compute.most_workers < asked:
        print(f"{name}: {compute.most_workers} of the {asked} workers (compute.num_workers) train: this training "
              "has no work for more of them", flush=True)
    state, log = run_training(name, model, compute, params.cluster, files)
    return _model_file(name, model, files, state, seconds_spent(log)), log


def _untrained(model: ModelParams, files: RunFiles) -> dict[str, torch.Tensor]:
    classes = training_classes(model, files.shards)
    torch.manual_seed(0)
    method = build_method(model.method, classes.sample_shape, len(classes.names))
    take_weights(method, model, files.init, files.shards)
    return method.state_dict()


def _model_file(name: str, model: ModelParams, files: RunFiles, state: dict[str, Any], seconds: float) -> ModelFile:
    shards, classes = files.shards, training_classes(model, files.shards)
    earlier = sorted(read_model(files.init).seen_classes) if files.init else []
    of_images = len(classes.sample_shape) == 3
    preparation = preparation_of(shards.manifest.parameters, classes.sample_shape) if of_images else None
    return ModelFile(model_name=name, method=model.method, preparation=preparation, sample_shape=classes.sample_shape,
                     num_classes=len(classes.names), state_dict=state["model"], step=state["step"],
                     seed=model.training.seed if model.training else 0, dataset=shards.manifest.name,
                     dataset_sha256=shards.sha256, split=model.split, train_classes=classes.names,
                     earlier_classes=earlier, seconds=seconds)
