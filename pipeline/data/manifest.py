"""dataset.json: what a folder of shards holds and was made with; written last, when the rest is whole."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.data.spec import Part
from pipeline.files import atomic_write, sha256_of

FORMAT = 1
MANIFEST = "dataset.json"


@dataclass(frozen=True)
class ShardEntry:
    """One tar: its file name, the group whose classes it holds, its bytes, its samples, its SHA-256."""

    name: str
    group: str
    size: int
    num_samples: int
    sha256: str


@dataclass(frozen=True)
class ClassEntry:
    """One class; its class_id is its position in `Manifest.classes`."""

    name: str
    group: str
    num_samples: int


@dataclass(frozen=True)
class WordsEntry:
    """The word table of a corpus of sentences: its SHA-256, its pairs of word and sentence, its vocabulary."""

    sha256: str
    num_pairs: int
    num_words: int


@dataclass(frozen=True)
class Manifest:
    """What dataset.json holds; `parameters` is DatasetParams in plain values, `sources` file -> SHA-256.

    splits: of the classes of samples; of words where there is a word table, `words` (None, and not in the file, where
        there is none).
    oddities: what was odd about the samples of a source that mends them (`CMYK JPEG`) -> how many; None for others.
    left_out: classes that have too few samples -> how many they have; None where the source leaves none out.
    """

    name: str
    num_samples: int
    classes: tuple[ClassEntry, ...]
    splits: Mapping[str, Mapping[Part, list[str]]]
    shards: tuple[ShardEntry, ...]
    index_sha256: str
    parameters: Mapping[str, Any]
    sources: Mapping[str, str]
    words: WordsEntry | None = None
    oddities: Mapping[str, int] | None = None
    left_out: Mapping[str, int] | None = None

    def split(self, name: str) -> Mapping[Part, list[str]]:
        """Part -> class names of one split."""
        if name not in self.splits:
            known = ", ".join(self.splits)
            raise ValueError(f"split: {name!r} is not a split of {self.name}; it has: {known}; "
                             "add it to the dataset's splits, or name one of these")
        return self.splits[name]


def write_manifest(directory: Path, manifest: Manifest) -> None:
    with atomic_write(directory / MANIFEST) as file:
        fields = {name: value for name, value in asdict(manifest).items() if value is not None}
        json.dump({"format": FORMAT, **fields}, file, indent=1, ensure_ascii=False)
        file.write("\n")


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a folder of shards.

    Raises:
        ValueError: no manifest, not JSON, fields missing, or of another format version.
    """
    path = Path(directory) / MANIFEST
    if not path.is_file():
        raise ValueError(f"{path}: no such file: these shards are not finished; run the shard stage")
    return parse_manifest(path.read_bytes(), str(path))


def parse_manifest(content: bytes, origin: str) -> Manifest:
    """The manifest in the bytes of a dataset.json; `origin` is where they are from, for messages.

    Raises:
        ValueError: not JSON, fields missing, or of another format version.
    """
    try:
        fields = json.loads(content.decode())
        found = fields.pop("format", None)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{origin}: not a manifest ({error}); run the shard stage again") from error
    if found != FORMAT:
        raise ValueError(f"{origin}: format {found!r}, but this program reads format {FORMAT}; "
                         "run the shard stage again")
    try:
        fields["classes"] = tuple(ClassEntry(**entry) for entry in fields["classes"])
        fields["shards"] = tuple(ShardEntry(**entry) for entry in fields["shards"])
        fields["words"] = WordsEntry(**fields["words"]) if "words" in fields else None
        return Manifest(**fields)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{origin}: not a whole manifest ({error}); run the shard stage again") from error


def manifest_sha256(directory: Path) -> str:
    """Hex SHA-256 of dataset.json: names the data, since it holds the SHA-256 of all else."""
    return sha256_of(Path(directory) / MANIFEST)
