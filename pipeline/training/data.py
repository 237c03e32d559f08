"""The data of a training run: its classes, and its task with the data loaded (episodes, a stream of images, text).

A language model's classes are the words that it predicts, the most frequent first.
"""

import math
from dataclasses import dataclass, replace

import torch

from matchnet.classifier_training import ClassifierData, ClassifierTask, ClassifierTrainingSpec
from matchnet.episodes import ClassRows
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask, ValidatedSpec
from matchnet.store import MemoryStore, Store, with_rotations
from matchnet.text_training import TextData, TextSpec, TextTask
from matchnet.tokens import END, FIRST_WORD
from matchnet.training import Task
from pipeline.data.load.crop import CropSpec
from pipeline.data.load.from_shards import ShardStore
from pipeline.data.load.samples import Room, load_samples, require_episodes
from pipeline.data.load.sentences import load_sentences
from pipeline.data.load.stream import ShardStream, StreamSpec
from pipeline.data.shards.folder import ShardFolder
from pipeline.params.sections import ModelParams

END_NAME = "<eos>"  # the end of a sentence, among the words that a language model predicts
TURNS = (0, 90, 180, 270)  # degrees, as matchnet.store.with_rotations orders them
SHARES_AHEAD = 2  # shares of episodes made ahead, if the model would otherwise wait for them


@dataclass(frozen=True)
class TrainingClasses:
    """The data that a method is built for: the shape of a sample, and the names of the training classes."""

    sample_shape: tuple[int, ...]
    names: list[str]


def training_classes(model: ModelParams, shards: ShardFolder) -> TrainingClasses:
    """Training classes, from the manifest and the word table alone. A turned class is named `Greek/character01@90`."""
    if isinstance(model.training, TextSpec):
        held_out = set(shards.names_of(model.split, () if model.training.targets == "all" else ("valid", "test")))
        words = [word for word in shards.words.vocabulary if word not in held_out]
        return TrainingClasses(model.sample_shape, [END_NAME, *words])
    names = sorted(shards.names_of(model.split, model.train_parts))
    if model.rotations:
        names = [f"{name}@{degrees}" if degrees else name for degrees in TURNS for name in names]
    return TrainingClasses(model.sample_shape, names)


def require_classes(model: ModelParams, shards: ShardFolder) -> None:
    """Refuse a training whose episodes, or those of its validation, the classes cannot serve: before workers start.

    Raises:
        ValueError: see `require_episodes`.
    """
    spec = model.training
    if isinstance(spec, EpisodicSpec):
        require_episodes(shards, model.split, model.train_parts, spec.episode, "training.episode",
                         copies=len(TURNS) if model.rotations else 1)
    if isinstance(spec, ValidatedSpec) and _is_validated(model, shards):
        require_episodes(shards, model.split, ("valid",), spec.valid_episode, "training.valid_episode")


def _is_validated(model: ModelParams, shards: ShardFolder) -> bool:
    return "valid" not in model.train_parts and bool(shards.names_of(model.split, ("valid",)))


def require_memory(model: ModelParams, shards: ShardFolder, memory_bytes: int) -> None:
    """Refuse rotations of images that do not fit into the memory of a worker: those in shards cannot be turned.

    Raises:
        ValueError: names the fields, and the memory that is needed.
    """
    if not model.rotations:
        return
    needed = shards.count_samples(model.split, model.train_parts) * math.prod(model.sample_shape)
    if needed > memory_bytes:
        raise ValueError(f"rotations is true, and the training images take {needed:,} bytes, of {memory_bytes:,} that "
                         "a worker may take: only images in memory can be turned; set cluster.memory_gib to "
                         f"{math.ceil(needed / 2**30 * 100) / 100} or more, or write rotations: false")


def load_task(model: ModelParams, shards: ShardFolder, room: Room | None = None,
              device: torch.device | None = None) -> Task:
    """Load a model's task. Episodes' images that are held in memory are moved to `device`, if it is a GPU and they fit.

    Raises:
        ValueError: damaged shards, rotations of images that do not fit into memory, or classes that cannot serve the
            episodes of training or of validation.
    """
    spec, room, device = model.training, room or Room(), device or torch.device("cpu")
    if isinstance(spec, TextSpec):
        return TextTask(_load_text(model, shards), spec)
    if isinstance(spec, ClassifierTrainingSpec):
        wanted = StreamSpec(model.split, model.train_parts, model.sample_shape, training_classes(model, shards).names,
                            CropSpec(spec.smallest_crop, spec.flip), spec.seed)
        stream = ShardStream(shards, wanted, room.num_processes, room.shared_bytes)
        return ClassifierTask(ClassifierData(stream, *_load_valid(model, spec, shards, room)), spec)
    assert isinstance(spec, EpisodicSpec)
    require_memory(model, shards, room.memory_bytes)
    samples = load_samples(shards, model.split, model.train_parts, model.sample_shape, room)
    if model.rotations:
        assert isinstance(samples.store, MemoryStore)
        rotated, class_id_R = with_rotations(samples.store, samples.class_id_R)
        samples = replace(samples, store=rotated, class_id_R=class_id_R)
    classes = samples.classes_for(spec.episode)
    valid_store, valid_classes = _load_valid(model, spec, shards, room)
    store = samples.store
    if device.type == "cuda":
        store, valid_store = near(store, device), valid_store and near(valid_store, device)
    task = EpisodicTask(EpisodicData(store, classes, valid_store, valid_classes), spec)
    # on a CPU, a thread that gathers images from memory takes as much time from the model as it saves
    worth_a_thread = device.type == "cuda" or isinstance(store, ShardStore)
    task.prefetch = SHARES_AHEAD if worth_a_thread else 0
    return task


def near(store: Store, device: torch.device) -> Store:
    """Move a store to the GPU if it takes no more than a quarter of the free memory; the rest is for the model."""
    if isinstance(store, MemoryStore) and 4 * store.samples.nbytes <= torch.cuda.mem_get_info(device)[0]:
        return store.to(device)
    return store


def _load_valid(model: ModelParams, spec: ValidatedSpec, shards: ShardFolder,
                room: Room) -> tuple[Store, ClassRows] | tuple[None, None]:
    """The classes of the valid part, unless there are none or they are trained on; raises as `load_task`."""
    if not _is_validated(model, shards):
        return None, None
    valid = load_samples(shards, model.split, ("valid",), model.sample_shape, room)
    return valid.store, valid.classes_for(spec.valid_episode)  # now, rather than at the first validation


def _load_text(model: ModelParams, shards: ShardFolder) -> TextData:
    """The training file's sentences to train on, and the valid file's to validate on."""
    words = {word: FIRST_WORD + w for w, word in enumerate(shards.words.vocabulary)}
    tokens = {END_NAME: END, **words}
    target_R = torch.tensor([tokens[name] for name in training_classes(model, shards).names])
    train, valid = (load_sentences(shards, part).running_text() for part in ("train", "valid"))
    return TextData(train, target_R, valid)
