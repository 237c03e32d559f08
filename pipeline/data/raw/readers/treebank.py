"""Trees of the Penn Treebank into the form that Mikolov gave it, with nltk's reader of bracketed trees.

Traces and punctuation go, words are lower case, numbers and the percent sign are `N`, the most frequent words of the
training sentences stay and all others are `<unk>`. With Mikolov's vocabulary, 3,910 of the 3,914 sentences of nltk's
sample (WSJ 1 to 199) come out as lines of his training file; the other four are of one list of people who were fined.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matchnet.files import atomic_write
from pipeline.data.formats.word_table import NUMBER, UNKNOWN, WordTable
from pipeline.data.raw.readers.sentence_files import FileNames, list_samples, open_sentences, table_of
from pipeline.data.raw.source import RawSample, ReadSample
from pipeline.data.spec import DatasetParams, Part

FILES: FileNames = {"train": "train.txt", "valid": "valid.txt", "test": "test.txt"}
NUM_WORDS = 9_999  # with <unk> and N; Mikolov's 10,000 have the end of a sentence as well
FEWEST = 2  # occurrences in training of a word in the vocabulary; small corpora have fewer than 9,999 such words

# Tags of what is not heard: traces, commas, stops, quotes, colons and dashes, brackets.
SILENT_TAGS = {"-NONE-", ",", ".", "``", "''", ":", "-LRB-", "-RRB-"}
_NUMBER = re.compile(r"%|[\d.,:/\\-]*\d[\d.,:/\\-]*")


def plain_words(tagged: Iterable[tuple[str, str]]) -> list[str]:
    """The words of a tagged sentence in Mikolov's form, before rare ones become `<unk>`."""
    return [NUMBER if _NUMBER.fullmatch(word) else word.lower() for word, tag in tagged if tag not in SILENT_TAGS]


def read_trees(place: Path, below: str, parts_of: Mapping[Part, Sequence[str]]) -> dict[Part, list[list[str]]]:
    """The sentences of each part, in Mikolov's form.

    Args:
        place: a folder or a zip archive. nltk may read there and nowhere else; it downloads nothing.
        below: where in it the files lie.
        parts_of: part -> names of files.
    Raises:
        ValueError: a file that is not one of bracketed trees; names it.
    """
    import nltk.data  # a second to import, and only the stage download needs it
    from nltk.corpus.reader import BracketParseCorpusReader

    place = place.absolute()
    before, nltk.data.path[:] = list(nltk.data.path), [str(place if place.is_dir() else place.parent)]
    try:
        root = str(place / below) if place.is_dir() else nltk.data.ZipFilePathPointer(str(place), below)
        reader = BracketParseCorpusReader(root, [name for names in parts_of.values() for name in names])
        return {part: [words for name in names for words in _sentences(reader, name, place)]
                for part, names in parts_of.items()}
    finally:
        nltk.data.path[:] = before


def write_files(raw_dir: Path, sentences: Mapping[Part, Sequence[Sequence[str]]]) -> None:
    """`train.txt`, `valid.txt` and `test.txt`, one sentence a line, all other words than the vocabulary's `<unk>`."""
    counts = Counter(word for words in sentences["train"] for word in words)
    frequent = sorted((word for word in counts if counts[word] >= FEWEST), key=lambda word: (-counts[word], word))
    known = set(frequent[:NUM_WORDS - 1])
    for part, name in FILES.items():
        with atomic_write(raw_dir / name) as file:
            file.writelines(" ".join(word if word in known else UNKNOWN for word in words) + "\n"
                            for words in sentences[part])


def read_raw(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    """All sentences. Raises ValueError for a text file that is missing or damaged; names file and line."""
    return list_samples(raw_dir, FILES)


def open_raw(raw_dir: Path, params: DatasetParams) -> ReadSample:
    """The words of a sentence."""
    return open_sentences(raw_dir, FILES)


def read_words(raw_dir: Path, params: DatasetParams) -> WordTable:
    """The words that each sentence holds."""
    return table_of(raw_dir, FILES)


def _sentences(reader: Any, name: str, place: Path) -> list[list[str]]:
    text = reader.raw(name)
    opened, closed = text.count("("), text.count(")")
    if not opened or opened != closed:  # nltk passes over a tree that is cut short
        raise ValueError(f"{place}: {name}: {opened:,} brackets open in it and {closed:,} close: not a whole file of "
                         "bracketed trees; take it from its source again")
    found = [plain_words(tagged) for tagged in reader.tagged_sents(name)]
    return [words for words in found if words]
