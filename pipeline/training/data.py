"""The data of a training run: its classes (and their rotations) in memory, and the classes it is validated on.

A language model's classes are the words that it predicts, the most frequent first.
"""

import math
from dataclasses import dataclass, replace

from matchnet.episodes import ClassRows
from matchnet.episodic_training import EpisodicData, EpisodicSpec, ValidatedSpec
from matchnet.store import MemoryStore, Store, with_rotations
from matchnet.text_training import TextSpec
from pipeline.data.load.samples import Room, Samples, load_samples, require_episodes
from pipeline.data.shards.folder import ShardFolder
from pipeline.params.sections import ModelParams

END_NAME = "<eos>"  # the end of a sentence, among the words that a language model predicts
TURNS = (0, 90, 180, 270)  # degrees, as matchnet.store.with_rotations orders them


@dataclass(frozen=True)
class TrainingClasses:
    """The data that a method is built for: the shape of a sample, and the names of the training classes."""

    sample_shape: tuple[int, ...]
    names: list[str]


def training_classes(model: ModelParams, shards: ShardFolder) -> TrainingClasses:
    """Training classes, from the manifest and the word table alone. A turned class is named `Greek/character01@90`."""
    split = shards.manifest.split(model.split)
    if isinstance(model.training, TextSpec):
        held_out = set() if model.training.targets == "all" else {*split["valid"], *split["test"]}
        words = [word for word in shards.words.vocabulary if word not in held_out]
        return TrainingClasses(model.sample_shape, [END_NAME, *words])
    names = sorted(name for part in model.train_parts for name in split[part])
    if model.rotations:
        names = [f"{name}@{degrees}" if degrees else name for degrees in TURNS for name in names]
    return TrainingClasses(model.sample_shape, names)


def require_classes(model: ModelParams, shards: ShardFolder) -> None:
    """Refuse a training whose episodes, or those of its validation, the classes cannot serve: before Ray is started.

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


def load_training_data(model: ModelParams, shards: ShardFolder, room: Room | None = None) -> EpisodicData:
    """The training classes, and those of the valid part unless they are trained on.

    Raises:
        ValueError: damaged shards, rotations of images that do not fit into memory, or classes that cannot serve the
            episodes of training or of validation.
    """
    assert isinstance(model.training, EpisodicSpec)
    room = room or Room()
    require_memory(model, shards, room.memory_bytes)
    samples = load_samples(shards, model.split, model.train_parts, model.sample_shape, room)
    samples = _turned(samples) if model.rotations else samples
    return EpisodicData(samples.store, samples.classes_for(model.training.episode),
                        *load_valid_data(model, model.training, shards, room))


def load_valid_data(model: ModelParams, spec: ValidatedSpec, shards: ShardFolder,
                    room: Room | None = None) -> tuple[Store, ClassRows] | tuple[None, None]:
    """The classes of the valid part, unless there are none or they are trained on; raises as `load_training_data`."""
    if not _is_validated(model, shards):
        return None, None
    valid = load_samples(shards, model.split, ("valid",), model.sample_shape, room)
    return valid.store, valid.classes_for(spec.valid_episode)  # now, rather than at the first validation


def _turned(samples: Samples) -> Samples:
    assert isinstance(samples.store, MemoryStore)
    store, class_id_R = with_rotations(samples.store, samples.class_id_R)
    return replace(samples, store=store, class_id_R=class_id_R)
