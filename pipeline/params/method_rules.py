"""Rules between methods, datasets and rows. What they refuse would else fail in a worker, or after the training."""

from functools import cache

import torch

from matchnet.classifier_training import ClassifierTrainingSpec
from matchnet.encoders import EncoderSpec, build_encoder
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.encoders.inception import InceptionSpec
from matchnet.episodes import ALL_WAYS, EpisodeSpec
from matchnet.episodic_training import EpisodicSpec, ValidatedSpec
from matchnet.methods import FineTuningSpec
from matchnet.methods.classifier import ClassifierSpec
from matchnet.methods.mann import MannSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.siamese import SiameseSpec
from matchnet.parsing import ParamsError
from matchnet.preparation import Preparation
from pipeline.data.formats.images import preparation_of
from pipeline.data.spec import DatasetParams, SplitParams, TwoListsSplit, WholeSplit
from pipeline.params.sections import ModelParams, RowParams
from pipeline.paths import short_name


def check_method(model: ModelParams, dataset: DatasetParams, path: str) -> None:
    """The model's encoder fits its samples, and its training fits its method and dataset."""
    _check_encoder(model, f"{path}.method.encoder")
    if isinstance(model.training, ClassifierTrainingSpec) and dataset.margin is not None:
        raise ParamsError(f"{path}.training: found random crops of single images (batch_size, ...), which are for "
                          f"photographs, and dataset {model.dataset} has margin {dataset.margin}, which is for "
                          "drawings; train on episodes, or on a dataset with margin: null")
    if model.image_size is not None:
        _prepared(model, model.dataset, dataset, f"{path}.channels")
    if isinstance(model.method, MannSpec):
        _check_ways(model, model.method.num_ways, dataset.splits[model.split], f"{path}.training")


def check_use(row: RowParams, model: ModelParams, dataset: DatasetParams, trained_on: DatasetParams,
              num_classes: int | None, path: str) -> None:
    """The row can use its model as it asks, on this dataset.

    Args:
        trained_on: the model's own dataset.
        num_classes: classes of the row's part; None where that is not known yet.
    """
    name = short_name(row.model)
    if row.nearest is not None and getattr(model.method, "attention", None) is None:
        raise ParamsError(f"{path}.nearest: found {row.nearest}, and model {name!r} of method {model.method.name} has "
                          "no attention; write null")
    if row.adaptation is not None:
        _check_adaptation(row.adaptation, model, f"{path}.adaptation")
    if isinstance(model.method, MannSpec):
        for column, task in row.tasks.items():
            _check_column(column, task.among(num_classes or ALL_WAYS), model.method.num_ways, name, f"{path}.columns")
    if model.image_size is not None:
        kinds = [_prepared(model, holder.dataset, found, f"{path}.dataset").kind
                 for holder, found in ((model, trained_on), (row, dataset))]
        if None not in kinds and kinds[0] != kinds[1]:
            raise ParamsError(f"{path}.dataset: found {row.dataset!r}, which holds {kinds[1]}, and model {name!r} is "
                              f"trained on {kinds[0]} ({model.dataset}), on another ground; name a dataset of "
                              f"{kinds[0]}, or a model of {kinds[1]}")


def _check_encoder(model: ModelParams, path: str) -> None:
    encoder: EncoderSpec | None = getattr(model.method, "encoder", None)
    of_images = isinstance(encoder, Conv4Spec | InceptionSpec)
    if encoder is None or not (of_images or model.image_size):  # every encoder of text takes every context
        return
    try:
        _require_fit(encoder, model.sample_shape)
    except ValueError as error:
        size = f"context {model.context}" if model.image_size is None else \
            f"image_size {model.image_size} and channels {model.channels}"
        raise ParamsError(f"{path}: found {encoder.name} with {size}: {error}") from error


@cache
def _require_fit(encoder: EncoderSpec, sample_shape: tuple[int, ...]) -> None:
    """Build the encoder, which has its own rules; on torch's meta device nothing is computed or drawn.

    A whole method would take a second there: torch imports its compiler for logarithms and embeddings of this device.
    """
    with torch.device("meta"):
        build_encoder(encoder, sample_shape)


def _prepared(model: ModelParams, name: str, dataset: DatasetParams, path: str) -> Preparation:
    """How the model sees the dataset's images."""
    try:
        return preparation_of(dataset.shard_parameters(), model.sample_shape)
    except ValueError as error:
        raise ParamsError(f"{path}: found {model.channels} channels of the model, and dataset {name}: {error}"
                          ) from error


def _check_ways(model: ModelParams, num_ways: int, split: SplitParams, path: str) -> None:
    training = model.training
    if isinstance(training, EpisodicSpec) and training.episode.num_ways > num_ways:
        raise ParamsError(f"{path}.episode.num_ways: found {training.episode.num_ways}, and method.num_ways is "
                          f"{num_ways}: a MANN's labels are one-hot; write {num_ways} in both")
    if isinstance(training, ValidatedSpec) and "valid" not in model.train_parts and _has_valid(split) \
            and training.valid_episode.num_ways != num_ways:
        raise ParamsError(f"{path}.valid_episode.num_ways: found {training.valid_episode.num_ways}, and "
                          f"method.num_ways is {num_ways}: a MANN serves one number of ways; write {num_ways}")


def _has_valid(split: SplitParams) -> bool:
    if isinstance(split, WholeSplit):
        return split.part == "valid"
    return isinstance(split, TwoListsSplit) or split.num_valid > 0


def _check_column(column: str, task: EpisodeSpec, num_ways: int, name: str, path: str) -> None:
    if task.num_ways not in (num_ways, ALL_WAYS):
        raise ParamsError(f"{path}: found {column!r}, of {task.num_ways} ways, and model {name!r} is a MANN of "
                          f"{num_ways} (method.num_ways), whose labels are one-hot; name tasks of {num_ways} ways, or "
                          f"a model of {task.num_ways}")


def _check_adaptation(adaptation: FineTuningSpec, model: ModelParams, path: str) -> None:
    """What `matchnet.methods.fine_tuning.FineTuned` can tune."""
    method = model.method
    encoder = method.encoder if isinstance(method, MatchingNetworkSpec | ClassifierSpec | SiameseSpec) else None
    if not isinstance(encoder, Conv4Spec) or (isinstance(method, MatchingNetworkSpec) and not method.tied):
        what = f" with encoder {encoder.name}" if encoder else ""
        raise ParamsError(f"{path}: found not null, and the model's method is {method.name}{what}; a classifier, a "
                          "siamese net or a matching network with tied: true, and encoder conv4, can be tuned: write "
                          "null, or name such a model")
    if adaptation.frozen_blocks >= encoder.num_blocks:
        raise ParamsError(f"{path}.frozen_blocks: found {adaptation.frozen_blocks}, and the model's encoder has "
                          f"{encoder.num_blocks} blocks; leave at least one to tune: write at most "
                          f"{encoder.num_blocks - 1}")
