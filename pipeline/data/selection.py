"""The rows of the index, and the classes, that some parts of a split are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from matchnet.episodes import EpisodeSpec
from pipeline.data.index import Index
from pipeline.data.manifest import Manifest
from pipeline.data.spec import PARTS, Part


@dataclass(frozen=True)
class Selection:
    """Samples of some parts of a split.

    rows: of the index, sorted by class and key; so they come in the same order however the shards are cut.
    class_id_R: int64, one a row.
    parts: part -> class_ids, int64, sorted; empty for a part that was not asked for or has no class.
    """

    rows: np.ndarray
    class_id_R: np.ndarray
    parts: Mapping[Part, np.ndarray]


def select(manifest: Manifest, index: Index, split: str, parts: Sequence[Part] = PARTS) -> Selection:
    """Raises ValueError for a split that the dataset does not have, or parts that are not parts."""
    _check(parts)
    names = manifest.split(split)
    class_ids = {entry.name: class_id for class_id, entry in enumerate(manifest.classes)}
    chosen = {part: np.array([class_ids[name] for name in names[part]] if part in parts else [], np.int64)
              for part in PARTS}
    rows = np.flatnonzero(np.isin(index.class_id_R, np.concatenate(list(chosen.values()))))
    key_R = index.key_R.take(rows).to_numpy(zero_copy_only=False)
    rows = rows[np.lexsort((key_R, index.class_id_R[rows]))]
    return Selection(rows, index.class_id_R[rows].astype(np.int64), chosen)


def groups_of(manifest: Manifest, split: str, parts: Sequence[Part] = PARTS) -> set[str]:
    """The groups of shards that hold the samples of these parts; of a corpus of sentences, all groups.

    Raises ValueError as `select` does.
    """
    _check(parts)
    if manifest.words is not None:
        return {entry.group for entry in manifest.shards}
    wanted = {name for part in parts for name in manifest.split(split)[part]}
    return {entry.group for entry in manifest.classes if entry.name in wanted}


def require_episodes(manifest: Manifest, split: str, parts: Sequence[Part], spec: EpisodeSpec, field: str) -> None:
    """Refuse episodes that the classes of these parts cannot serve, from the manifest alone: before anything is loaded.

    Of a corpus of sentences that is known only when they are read; see `Samples.classes_for`.

    Args:
        field: of the parameters, that holds `spec`; for messages.
    Raises:
        ValueError: names the field, the dataset, the parts and the class, with the numbers and what to do.
    """
    if manifest.words is not None:
        return
    names = {name for part in parts for name in manifest.split(split)[part]}
    where = f"dataset {manifest.name}, split {split}, {' and '.join(parts)}"
    if max(spec.num_ways, 2) > len(names):  # of all classes, too
        raise ValueError(f"{field}: num_ways is {spec.num_ways}, and there are {len(names)} classes ({where}); lower "
                         "it or name a part that has more")
    fewest = min((entry for entry in manifest.classes if entry.name in names), key=lambda entry: entry.num_samples)
    if spec.samples_per_way > fewest.num_samples:
        raise ValueError(f"{field}: num_shots is {spec.num_shots} and num_queries {spec.num_queries}, "
                         f"{spec.samples_per_way} samples of a class, and class {fewest.name!r} has "
                         f"{fewest.num_samples} ({where}); lower one of them or leave the class out of the dataset")


def _check(parts: Sequence[Part]) -> None:
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"parts: {unknown[0]!r} is not a part of a split; name some of {', '.join(PARTS)}")
