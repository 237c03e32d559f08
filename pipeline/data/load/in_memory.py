"""The in-memory store's data: the samples of some parts of a split, decoded once into one uint8 tensor."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.data.load.decoder import Decoder
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.spec import PARTS, Part
from pipeline.system.progress import Progress

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Dataset:
    """Samples of some parts of a split, in memory.

    samples_RCHW: uint8, of drawings ink = 255; sorted by class and key, so independent of how the shards are cut.
    class_id_R: int64, positions in `classes`.
    classes: the names of all classes of the dataset.
    parts: part -> class_ids, int64, sorted; empty for a part that was not asked for or has no class.
    manifest_sha256: names the data.
    """

    name: str
    split: str
    samples_RCHW: torch.Tensor
    class_id_R: np.ndarray
    classes: list[str]
    parts: Mapping[Part, np.ndarray]
    manifest_sha256: str


def load_split(shards: ShardFolder, split: str, sample_shape: tuple[int, ...],
               parts: Sequence[Part] = PARTS) -> Dataset:
    """Decode the samples of some parts of a split: 5 s for all of Omniglot at 28 x 28 on one core.

    The shards that these parts are in are compared with their SHA-256 first; others need not be there.

    Raises:
        ValueError: an unknown split, a shard cut short or edited, an image that cannot be decoded (shard,
            key and offset are named).
    """
    groups, name = shards.groups_of(split, parts), shards.manifest.name
    shards.verify(groups)
    decoder = Decoder(shards, sample_shape, groups)
    with closing(decoder.shards):
        chosen = shards.select(split, parts)
        samples_RCHW = np.empty((len(chosen.rows), *sample_shape), np.uint8)
        with Progress(f"loading {name}", len(chosen.rows), "samples") as progress:
            for start in range(0, len(chosen.rows), ROWS_AT_ONCE):
                chunk = chosen.rows[start:start + ROWS_AT_ONCE]
                for position, pixels in enumerate(decoder.decode(shards.index.take(chunk)), start):
                    samples_RCHW[position] = pixels
                progress.advance(len(chunk))
    return Dataset(name=name, split=split, samples_RCHW=torch.from_numpy(samples_RCHW), class_id_R=chosen.class_id_R,
                   classes=shards.class_names, parts=chosen.parts, manifest_sha256=shards.sha256)
