"""What a model trains on, with its data loaded: episodes, or running text."""

from pathlib import Path

from matchnet.episodic_training import EpisodicSpec, EpisodicTask
from matchnet.training import Task
from pipeline.params.sections import ModelParams
from pipeline.training.data import load_training_data


def load_task(model: ModelParams, shards: Path) -> Task:
    """Raises ValueError for damaged shards, and for data that cannot serve the training."""
    assert isinstance(model.training, EpisodicSpec)
    return EpisodicTask(load_training_data(model, shards), model.training)
