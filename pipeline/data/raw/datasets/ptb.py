"""The Penn Treebank as Mikolov prepared it [Mikolov et al. 2010]: three text files of Wall Street Journal sentences.

Lower case, without punctuation, numbers as `N`, the 10,000 most frequent words (with the end of a sentence) and `<unk>`
for all others. Sections 0-20 of the Treebank are for training, 21-22 for validation, 23-24 for test.
"""

from collections.abc import Mapping
from pathlib import Path

from pipeline.data.formats.word_table import WordTable
from pipeline.data.raw.readers.sentence_files import (
    EXTENSION,
    FileNames,
    list_samples,
    open_sentences,
    read_sentences,
    table_of,
)
from pipeline.data.raw.source import RawSample, ReadSample
from pipeline.data.spec import DatasetParams, Part

__all__ = ["EXTENSION", "open_raw", "prepare_raw", "read_raw", "read_words"]

FILES: FileNames = {"train": "ptb.train.txt", "valid": "ptb.valid.txt", "test": "ptb.test.txt"}
SENTENCES: Mapping[Part, int] = {"train": 42_068, "valid": 3_370, "test": 3_761}


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """Check that all sentences have come."""
    read_raw(raw_dir, params)


def read_raw(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    """All sentences of the three files.

    Raises:
        ValueError: a file is missing, cut short or not UTF-8, or a line is empty; names file and line.
    """
    for file, expected in SENTENCES.items():
        path = raw_dir / FILES[file]
        found = len(read_sentences(path))
        if found != expected:
            raise ValueError(f"{path}: {found:,} sentences, expected {expected:,}: it was cut short, or is of another "
                             "preparation; delete it and run the download")
    return list_samples(raw_dir, FILES)


def open_raw(raw_dir: Path, params: DatasetParams) -> ReadSample:
    """The words of a sentence."""
    return open_sentences(raw_dir, FILES)


def read_words(raw_dir: Path, params: DatasetParams) -> WordTable:
    """The words that each sentence holds."""
    return table_of(raw_dir, FILES)
