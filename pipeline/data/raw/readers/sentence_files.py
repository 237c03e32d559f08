"""A corpus as three text files, one sentence a line, words parted by spaces: the common form of all text sources.

They are UTF-8; a byte order mark at the beginning is dropped. A class of samples is a file, `train`, `valid` or `test`:
so no shard mixes them. Words come from `read_words`.
"""

import codecs
import re
from collections.abc import Mapping
from pathlib import Path

from matchnet.messages import shown
from pipeline.data.formats.word_table import NUMBER, UNKNOWN, WordTable, make_word_table
from pipeline.data.raw.source import RawSample, ReadSample
from pipeline.data.spec import PARTS, Part

EXTENSION = "txt"
DIGITS = 6  # digits of a line's number in its key, so that keys sort as lines do
_MARKER = re.compile(r"<[^<>]*>|\[[A-Z]+\]")  # <eos>, <UNK>, </s>, [PAD]
FileNames = Mapping[Part, str]


def read_sentences(path: Path) -> list[str]:
    """The sentences of a file, each with one space between its words.

    Raises:
        ValueError: no such file, bytes that are not UTF-8, a line without a word, or a marker of another preparation;
            names file and line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run the download first")
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    return [_sentence(line, path, number) for number, line in enumerate(lines, start=1)]


def list_samples(raw_dir: Path, names: FileNames) -> list[RawSample]:
    """One sample a line; its key is `train/000041`."""
    return [RawSample(f"{file}/{row:0{DIGITS}d}", file, names[file], str(row), len(sentence.encode()))
            for file in PARTS for row, sentence in enumerate(read_sentences(raw_dir / names[file]))]


def open_sentences(raw_dir: Path, names: FileNames) -> ReadSample:
    """The words of a sample, UTF-8, without the line's end."""
    sentences = {names[file]: read_sentences(raw_dir / names[file]) for file in PARTS}
    return lambda sample: sentences[sample.archive][int(sample.member)].encode()


def table_of(raw_dir: Path, names: FileNames) -> WordTable:
    """The words of all three files. Raises ValueError if one is of another vocabulary; names file, line and word."""
    try:
        return make_word_table({file: read_sentences(raw_dir / names[file]) for file in PARTS})
    except ValueError as error:
        raise ValueError(f"{raw_dir}: {error}") from error


def row_of(key: str) -> int:
    """The line of a sample in its file."""
    return int(key.rpartition("/")[2])


def _sentence(line: bytes, path: Path, number: int) -> str:
    try:
        words = line.decode("utf-8").split()
    except UnicodeDecodeError as error:
        byte = line[error.start:error.start + 1]
        raise ValueError(f"{path}, line {number}: byte {error.start + 1} of it, {byte!r}, is not UTF-8; take the file "
                         "from its source again, or convert it") from error
    if not words:
        raise ValueError(f"{path}, line {number}: no word in it; a sentence has at least one: remove the line, or take "
                         "the file from its source again")
    for word in words:
        if word != UNKNOWN and _MARKER.fullmatch(word):
            raise ValueError(f"{path}, line {number}: {shown(word)} is a marker of another preparation; the only ones "
                             f"are {UNKNOWN} for rare words and {NUMBER} for numbers, and a sentence ends with its "
                             "line: replace it, or take the three files from Mikolov's preparation")
        if not word.isprintable():
            raise ValueError(f"{path}, line {number}: {shown(word)} has a character that cannot be seen; remove it, or "
                             "take the file from its source again")
    return " ".join(words)
