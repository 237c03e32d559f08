"""Training tasks with their data loaded: episodes, a stream of images, or running text."""

from dataclasses import replace

import torch

from matchnet.classifier_training import ClassifierData, ClassifierTask, ClassifierTrainingSpec
from matchnet.episodic_training import EpisodicTask
from matchnet.store import MemoryStore, Store
from matchnet.text_training import TextData, TextSpec, TextTask
from matchnet.tokens import END, FIRST_WORD
from matchnet.training import Task
from pipeline.data.load.crop import CropSpec
from pipeline.data.load.from_shards import ShardStore
from pipeline.data.load.samples import Room
from pipeline.data.load.sentences import load_sentences
from pipeline.data.load.stream import ShardStream, StreamSpec
from pipeline.data.shards.folder import ShardFolder
from pipeline.params.sections import ModelParams
from pipeline.training.data import END_NAME, load_training_data, load_valid_data, training_classes

SHARES_AHEAD = 2  # shares of episodes made ahead, if the model would otherwise wait for them


def load_task(model: ModelParams, shards: ShardFolder, room: Room | None = None,
              device: torch.device | None = None) -> Task:
    """Load a model's task. Episodes' images that are held in memory are moved to `device`, if it is a GPU and they fit.

    Raises:
        ValueError: damaged shards, or data that cannot serve the training.
    """
    match model.training:
        case TextSpec():
            return TextTask(_load_text(model, shards), model.training)
        case ClassifierTrainingSpec():
            return ClassifierTask(_load_stream(model, model.training, shards, room or Room()), model.training)
        case _:
            assert model.training is not None
            data = load_training_data(model, shards, room)
            device = device or torch.device("cpu")
            if device.type == "cuda":
                data = replace(data, store=near(data.store, device),
                               valid_store=data.valid_store and near(data.valid_store, device))
            task = EpisodicTask(data, model.training)
            # on a CPU, a thread that gathers images from memory takes as much time from the model as it saves
            worth_a_thread = device.type == "cuda" or isinstance(task.data.store, ShardStore)
            task.prefetch = SHARES_AHEAD if worth_a_thread else 0
            return task


def near(store: Store, device: torch.device) -> Store:
    """Move a store to the GPU if it takes no more than a quarter of the free memory; the rest is for the model."""
    if isinstance(store, MemoryStore) and 4 * store.samples.nbytes <= torch.cuda.mem_get_info(device)[0]:
        return store.to(device)
    return store


def _load_stream(model: ModelParams, spec: ClassifierTrainingSpec, shards: ShardFolder, room: Room) -> ClassifierData:
    wanted = StreamSpec(model.split, model.train_parts, model.sample_shape, training_classes(model, shards).names,
                        CropSpec(spec.smallest_crop, spec.flip), spec.seed)
    stream = ShardStream(shards, wanted, room.num_processes, room.shared_bytes)
    return ClassifierData(stream, *load_valid_data(model, spec, shards, room))


def _load_text(model: ModelParams, shards: ShardFolder) -> TextData:
    """The training file's sentences to train on, and the valid file's to validate on."""
    words = {word: FIRST_WORD + w for w, word in enumerate(shards.words.vocabulary)}
    tokens = {END_NAME: END, **words}
    target_R = torch.tensor([tokens[name] for name in training_classes(model, shards).names])
    train, valid = (load_sentences(shards, part).running_text() for part in ("train", "valid"))
    return TextData(train, target_R, valid)
