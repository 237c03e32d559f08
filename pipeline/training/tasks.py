"""What a model trains on, with its data loaded: episodes, or running text."""

from pathlib import Path

import torch

from matchnet.episodic_training import EpisodicTask
from matchnet.text_training import TextData, TextSpec, TextTask
from matchnet.tokens import END, FIRST_WORD
from matchnet.training import Task
from pipeline.data.sentences import load_sentences
from pipeline.data.words import WORDS, read_words
from pipeline.params.sections import ModelParams
from pipeline.training.data import END_NAME, load_training_data, training_classes


def load_task(model: ModelParams, shards: Path) -> Task:
    """Raises ValueError for damaged shards, and for data that cannot serve the training."""
    match model.training:
        case TextSpec():
            return TextTask(_load_text(model, shards), model.training)
        case _:
            assert model.training is not None
            return EpisodicTask(load_training_data(model, shards), model.training)


def _load_text(model: ModelParams, shards: Path) -> TextData:
    """The sentences of the training file, validated on those of valid."""
    words = {word: FIRST_WORD + w for w, word in enumerate(read_words(shards / WORDS).vocabulary)}
    tokens = {END_NAME: END, **words}
    target_R = torch.tensor([tokens[name] for name in training_classes(model, shards).names])
    train, valid = (load_sentences(shards, part).running_text() for part in ("train", "valid"))
    return TextData(train, target_R, valid)
