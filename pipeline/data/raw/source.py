"""The interface of every dataset's module, so that sharding needs no knowledge of a dataset.

A module of `pipeline/data/raw/datasets` has:
    EXTENSION: str                                    # a sample's extension in the tar, "png"; or, if that depends,
    extension_of(parameters) -> str                   # the same from DatasetParams in a manifest's plain values
    prepare_raw(raw_dir, params, folder=None)         # after the download: make or check what lies in raw_dir;
                                                      # folder: the user's copy of licensed data
    read_raw(raw_dir, params) -> list[RawSample]      # a cheap listing of all samples, checked to be whole; raises
                                                      # ValueError with file and cause for what is wrong
    open_raw(raw_dir, params) -> ReadSample           # called in each worker process; the bytes of one sample
if the list leaves out odd images, or has images twice,
    read_oddities(raw_dir, params) -> dict[str, int]  # oddity of the images -> how many
if classes are left out, since they have too few samples,
    read_left_out(raw_dir, params) -> dict[str, int]  # their names -> how many samples they have
and, if splits divide the words in the samples (sentences) instead of the samples' classes,
    read_words(raw_dir, params) -> WordTable          # the words that each sample holds
"""

import importlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pipeline.data.formats.word_table import WordTable
from pipeline.data.spec import DatasetParams


class RawSample(NamedTuple):
    """One sample before sharding.

    key: its name in the shards, without a dot, such as `Greek/character03/07`.
    class_name: unique in the dataset; what precedes its first `/` is its family (an alphabet, a script).
    archive, member: where its bytes are: a file of raw_dir, and a name or number inside it.
    size: the number of its bytes, or a good guess if only the worker finds out; shards are planned with it.
    """

    key: str
    class_name: str
    archive: str
    member: str
    size: int


ReadSample = Callable[[RawSample], bytes]


class MendingReader(ABC):
    """A ReadSample that decodes each sample itself, so that it need not be decoded once more to be checked, mends
    what is odd about it, and counts that: `oddities` is what was odd -> how many, since it was last cleared."""

    oddities: Counter[str]

    @abstractmethod
    def __call__(self, sample: RawSample) -> bytes: ...


class Source(Protocol):
    """A module of `pipeline/data/raw/datasets`."""

    def prepare_raw(self, raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None: ...

    def read_raw(self, raw_dir: Path, params: DatasetParams) -> list[RawSample]: ...

    def open_raw(self, raw_dir: Path, params: DatasetParams) -> ReadSample: ...


def words_of(params: DatasetParams, raw_dir: Path) -> WordTable | None:
    """The word table of a source of sentences; None where a sample has one class, its own."""
    read_words = getattr(source_of(params.source), "read_words", None)
    return read_words(raw_dir, params) if read_words else None


def listed_oddities(params: DatasetParams, raw_dir: Path) -> Mapping[str, int]:
    """Oddity of the images that a source lists or leaves out -> how many; empty for most sources."""
    read_oddities = getattr(source_of(params.source), "read_oddities", None)
    return read_oddities(raw_dir, params) if read_oddities else {}


def classes_left_out(params: DatasetParams, raw_dir: Path) -> Mapping[str, int] | None:
    """Classes that have too few samples -> how many they have; None for a source that leaves none out."""
    read_left_out = getattr(source_of(params.source), "read_left_out", None)
    return read_left_out(raw_dir, params) if read_left_out else None


def extension_of(parameters: Mapping[str, Any]) -> str:
    """The extension of samples in shards that were made with these parameters (`Manifest.parameters`)."""
    module: Any = source_of(parameters["source"])
    return module.extension_of(parameters) if hasattr(module, "extension_of") else module.EXTENSION


def source_of(name: str) -> Source:
    """The module that reads the source of this name (`DatasetParams.source`)."""
    return importlib.import_module(f"pipeline.data.raw.datasets.{name}")
