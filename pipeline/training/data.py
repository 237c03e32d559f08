"""The data of a training run: its classes (and their rotations) in memory, and the classes it is validated on."""

from dataclasses import dataclass
from pathlib import Path

from matchnet.episodes import ClassRows
from matchnet.store import MemoryStore, with_rotations
from matchnet.training import TrainingData
from pipeline.data.loading import load_split
from pipeline.data.manifest import read_manifest
from pipeline.params.sections import ModelParams

TURNS = (0, 90, 180, 270)  # degrees, as matchnet.store.with_rotations orders them


@dataclass(frozen=True)
class TrainingClasses:
    """What a method is built for: the shape of a sample, and the names of the classes it is trained on."""

    sample_shape: tuple[int, ...]
    names: list[str]


def training_classes(model: ModelParams, shards: Path) -> TrainingClasses:
    """Read from the manifest alone. A class that is turned is named `Greek/character01@90`."""
    manifest = read_manifest(shards)
    split = manifest.split(model.split)
    chosen = {name for part in model.train_parts for name in split[part]}
    names = [entry.name for entry in manifest.classes if entry.name in chosen]
    if model.rotations:
        names = [f"{name}@{degrees}" if degrees else name for degrees in TURNS for name in names]
    return TrainingClasses((1, model.image_size, model.image_size), names)


def load_training_data(model: ModelParams, shards: Path) -> TrainingData:
    """Decode the training classes, and those of the valid part unless they are trained on.

    Raises:
        ValueError: damaged shards, or classes that cannot serve the episodes of training or of validation.
    """
    assert model.training is not None
    dataset = load_split(shards, model.split, model.image_size, model.train_parts)
    store, class_id_R = MemoryStore(dataset.samples_RCHW), dataset.class_id_R
    if model.rotations:
        store, class_id_R = with_rotations(store, class_id_R)
    classes = ClassRows.from_class_ids(class_id_R)
    classes.check(model.training.episode)
    if "valid" in model.train_parts or not read_manifest(shards).split(model.split)["valid"]:
        return TrainingData(store, classes)
    valid = load_split(shards, model.split, model.image_size, ("valid",))
    valid_classes = ClassRows.from_class_ids(valid.class_id_R)
    valid_classes.check(model.training.valid_episode)  # now, rather than at the first validation
    return TrainingData(store, classes, MemoryStore(valid.samples_RCHW), valid_classes)
