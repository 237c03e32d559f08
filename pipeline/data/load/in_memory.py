"""The in-memory store's data: the samples of some parts of a split, decoded once into one uint8 tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.data.load.decoder import Decoder
from pipeline.data.shards.index import INDEX, Index, read_index, verify_shards
from pipeline.data.shards.manifest import manifest_sha256, read_manifest
from pipeline.data.shards.selection import groups_of, select
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


def load_split(shards_dir: Path, split: str, sample_shape: tuple[int, ...], parts: Sequence[Part] = PARTS) -> Dataset:
    """Decode the samples of some parts of a split: 5 s for all of Omniglot at 28 x 28 on one core.

    The shards that these parts are in are compared with their SHA-256 first; others need not be there.

    Raises:
        ValueError: an unknown split, a shard cut short or edited, an image that cannot be decoded (shard,
            key and offset are named).
    """
    shards_dir = Path(shards_dir)
    groups = groups_of(read_manifest(shards_dir), split, parts)
    verify_shards(shards_dir, groups)
    manifest = read_manifest(shards_dir)
    index = read_index(shards_dir / INDEX, manifest.index_sha256)
    with Decoder(shards_dir, sample_shape, groups) as decoder:
        chosen = select(manifest, index, split, parts)
        samples_RCHW = _decode(decoder, index, chosen.rows, manifest.name)
    return Dataset(name=manifest.name, split=split, samples_RCHW=torch.from_numpy(samples_RCHW),
                   class_id_R=chosen.class_id_R, classes=[entry.name for entry in manifest.classes],
                   parts=chosen.parts, manifest_sha256=manifest_sha256(shards_dir))


def _decode(decoder: Decoder, index: Index, rows: np.ndarray, name: str) -> np.ndarray:
    samples_RCHW = np.empty((len(rows), *decoder.sample_shape), np.uint8)
    with Progress(f"loading {name}", len(rows), "samples") as progress:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            chunk = rows[start:start + ROWS_AT_ONCE]
            for position, pixels in enumerate(decoder.decode(index.take(chunk)), start):
                samples_RCHW[position] = pixels
            progress.advance(len(chunk))
    return samples_RCHW
