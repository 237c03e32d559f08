"""What a model trains on, with its data loaded: episodes, a stream of images, or running text."""

from pathlib import Path

import torch

from matchnet.classifier_training import ClassifierData, ClassifierTask, ClassifierTrainingSpec
from matchnet.episodic_training import EpisodicTask
from matchnet.text_training import TextData, TextSpec, TextTask
from matchnet.tokens import END, FIRST_WORD
from matchnet.training import Task
from pipeline.data.cropping import CropSpec
from pipeline.data.samples import Room
from pipeline.data.sentences import load_sentences
from pipeline.data.shard_store import ShardStore
from pipeline.data.streaming import ShardStream
from pipeline.data.words import WORDS, read_words
from pipeline.params.sections import ModelParams
from pipeline.training.data import END_NAME, load_training_data, load_valid_data, training_classes

SHARES_AHEAD = 2  # of episodes whose images are decoded when they are asked for


def load_task(model: ModelParams, shards: Path, room: Room | None = None) -> Task:
    """Raises ValueError for damaged shards, and for data that cannot serve the training."""
    match model.training:
        case TextSpec():
            return TextTask(_load_text(model, shards), model.training)
        case ClassifierTrainingSpec():
            return ClassifierTask(_load_stream(model, model.training, shards, room or Room()), model.training)
        case _:
            assert model.training is not None
            task = EpisodicTask(load_training_data(model, shards, room), model.training)
            task.prefetch = SHARES_AHEAD if isinstance(task.data.store, ShardStore) else 0
            return task


def _load_stream(model: ModelParams, spec: ClassifierTrainingSpec, shards: Path, room: Room) -> ClassifierData:
    stream = ShardStream(shards, model.split, model.train_parts, model.sample_shape,
                         training_classes(model, shards).names, CropSpec(spec.smallest_crop, spec.flip), spec.seed,
                         room.num_processes)
    return ClassifierData(stream, *load_valid_data(model, spec, shards, room))


def _load_text(model: ModelParams, shards: Path) -> TextData:
    """The sentences of the training file, validated on those of valid."""
    words = {word: FIRST_WORD + w for w, word in enumerate(read_words(shards / WORDS).vocabulary)}
    tokens = {END_NAME: END, **words}
    target_R = torch.tensor([tokens[name] for name in training_classes(model, shards).names])
    train, valid = (load_sentences(shards, part).running_text() for part in ("train", "valid"))
    return TextData(train, target_R, valid)
