"""A dataset's folder of shards and its contents; each of its files is read once."""

import hashlib
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from matchnet.files import sha256_of
from pipeline.data.formats.word_table import WORDS, WordTable, read_words
from pipeline.data.shards.index import INDEX, Index, read_index
from pipeline.data.shards.manifest import MANIFEST, Manifest, ShardEntry, parse_manifest
from pipeline.data.spec import PARTS, Part


class ShardFolder:
    """The manifest, the index and the word table of a folder of shards, each read when it is first asked for.

    They stay as they were read: where a folder may have been replaced, make another ShardFolder. To other processes
    the path alone is sent.

    Raises, when something is asked for:
        ValueError: there are no finished shards, or a file is damaged, edited, or of another format; names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __reduce__(self) -> tuple[type["ShardFolder"], tuple[Path]]:
        return ShardFolder, (self.path,)

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def _content(self) -> bytes:
        path = self.path / MANIFEST
        if not path.is_file():
            raise ValueError(f"{path}: no such file: dataset {self.path.name} has no finished shards; run this stage "
                             "by `dvc repro`, which makes them first, or run `python -m stages.download` and then "
                             "`python -m stages.shard` of that dataset")
        return path.read_bytes()

    @cached_property
    def manifest(self) -> Manifest:
        return parse_manifest(self._content, str(self.path / MANIFEST))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the manifest in hex. It names the data, since the manifest holds the SHA-256 of all else."""
        return hashlib.sha256(self._content).hexdigest()

    @cached_property
    def index(self) -> Index:
        return read_index(self.path / INDEX, self.manifest.index_sha256)

    @cached_property
    def words(self) -> WordTable:
        """The word table of a corpus; ValueError for shards of images, which have none."""
        words = self.manifest.words
        return read_words(self.path / WORDS, words.sha256 if words else None)

    @property
    def class_names(self) -> list[str]:
        """The names of all classes; a class_id is a position among them."""
        return [entry.name for entry in self.manifest.classes]

    def names_of(self, split: str, parts: Sequence[Part]) -> list[str]:
        """The classes of these parts; ValueError for a split that the dataset does not have, or an unknown part."""
        unknown = [part for part in parts if part not in PARTS]
        if unknown:
            raise ValueError(f"parts: {unknown[0]!r} is not a part of a split; name some of {', '.join(PARTS)}")
        manifest = self.manifest
        if split not in manifest.splits:
            raise ValueError(f"split: {split!r} is not a split of {manifest.name}; it has: "
                             f"{', '.join(manifest.splits)}; add it to the dataset's splits, or name one of these")
        return [name for part in parts for name in manifest.splits[split][part]]

    def groups_of(self, split: str, parts: Sequence[Part] = PARTS) -> set[str]:
        """The groups of shards that hold the samples of these parts; in a corpus of sentences, all groups.

        Raises ValueError as `names_of` does.
        """
        wanted = set(self.names_of(split, parts))
        if self.manifest.words is not None:
            return {entry.group for entry in self.manifest.shards}
        return {entry.group for entry in self.manifest.classes if entry.name in wanted}

    def shards_of(self, groups: Collection[str] | None) -> list[ShardEntry]:
        """The shards of these groups; None is all."""
        return [entry for entry in self.manifest.shards if groups is None or entry.group in groups]

    def select(self, split: str, parts: Sequence[Part] = PARTS) -> tuple[np.ndarray, np.ndarray]:
        """The samples of these parts: their rows of the index, and their class_ids (int64).

        They are sorted by class and key, so that the order does not depend on how the shards are cut. Raises ValueError
        as `names_of` does.
        """
        names, index = set(self.names_of(split, parts)), self.index
        class_ids = [class_id for class_id, name in enumerate(self.class_names) if name in names]
        rows = np.flatnonzero(np.isin(index.class_id_R, np.array(class_ids, np.int64)))
        key_R = index.key_R.take(rows).to_numpy(zero_copy_only=False)
        rows = rows[np.lexsort((key_R, index.class_id_R[rows]))]
        return rows, index.class_id_R[rows].astype(np.int64)

    def count_samples(self, split: str, parts: Sequence[Part]) -> int:
        """Number of samples of these parts, by the manifest; raises ValueError as `names_of` does."""
        wanted = set(self.names_of(split, parts))
        return sum(entry.num_samples for entry in self.manifest.classes if entry.name in wanted)

    def require_images(self) -> None:
        """Raises ValueError for shards of sentences."""
        if self.manifest.words is not None:
            raise ValueError(f"{self}: {self.manifest.name} holds sentences; give the model a context instead of an "
                             "image_size")

    def verify(self, groups: Collection[str] | None = None) -> None:
        """Read everything (of the shards, those of `groups`; None is all) and compare with the manifest.

        Raises:
            ValueError: a shard or the index has other bytes than when it was written; names it.
        """
        manifest = self.manifest
        expected = {entry.name: entry.sha256 for entry in self.shards_of(groups)} | {INDEX: manifest.index_sha256}
        expected |= {WORDS: manifest.words.sha256} if manifest.words else {}
        for name, sha256 in expected.items():
            path = self.path / name
            found = sha256_of(path) if path.is_file() else "no such file"
            if found != sha256:
                raise ValueError(f"{path}: edited after it was written: SHA-256 {found}, dataset.json says "
                                 f"{sha256}; run the shard stage again")

    def check_sizes(self, groups: Collection[str] | None = None) -> None:
        """Compare the index, and the sizes of the shards of `groups`, with the manifest: no shard is read.

        Raises:
            ValueError: a shard is missing or has another size; names the first key lost.
        """
        manifest, index = self.manifest, self.index
        if len(index) != manifest.num_samples or set(index.shards) != {entry.name for entry in manifest.shards}:
            raise ValueError(f"{self}: the index has {len(index)} samples in {len(index.shards)} shards, "
                             f"the manifest {manifest.num_samples} in {len(manifest.shards)}; "
                             "run the shard stage again")
        for entry in self.shards_of(groups):
            path = self.path / entry.name
            size = path.stat().st_size if path.is_file() else 0
            if size != entry.size:
                in_shard = index.shard_R == index.shards.index(entry.name)
                lost = np.flatnonzero(in_shard & (index.offset_R + index.length_R > size))
                first = f"; the first sample lost is {index.described(lost[0])}" if len(lost) else ""
                raise ValueError(f"{path}: {size:,} bytes, but dataset.json says {entry.size:,}: cut short or "
                                 f"edited after it was indexed{first}; run the shard stage again")
