"""The word table: one row for each pair of a word and a sentence that holds it, `words.parquet` beside the index.

Classes of a text corpus are words, and a sentence belongs to all of its words. A line that repeats an earlier one of
its file is the same sentence: it has no rows, so that no text is both support and query.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matchnet.files import atomic_write
from matchnet.tokens import FIRST_WORD
from pipeline.data.formats.parquet import read_table

WORDS = "words.parquet"
FORMAT = "1"
_FORMAT_KEY = b"matchnet.words.format"
_NAMES = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema([("word", _NAMES), ("token", pa.int32()), ("file", _NAMES), ("row", pa.int32()),
                    ("occurrences", pa.int32())], metadata={_FORMAT_KEY: FORMAT.encode()})

UNKNOWN, NUMBER = "<unk>", "N"  # stand for many words and numbers: tokens of sentences, never classes


@dataclass(frozen=True)
class WordTable:
    """P pairs of a word and a sentence that holds it, ordered by file, sentence and place.

    vocabulary: all words; word w is token FIRST_WORD + w. The most frequent of the training file come first.
    word_P: positions in vocabulary.
    file_P: names of files.
    row_P: the sentence's line in the file, from 0.
    occurrences_P: how often the word stands in the sentence.
    """

    vocabulary: list[str]
    word_P: np.ndarray
    file_P: np.ndarray
    row_P: np.ndarray
    occurrences_P: np.ndarray

    @property
    def classes(self) -> list[str]:
        """The words that can be classes."""
        return [word for word in self.vocabulary if word not in (UNKNOWN, NUMBER)]

    def token_of(self, word_P: np.ndarray) -> np.ndarray:
        """Positions in the vocabulary as tokens, int64."""
        return word_P.astype(np.int64) + FIRST_WORD

    @property
    def num_tokens(self) -> int:
        """The words and the marks: what an embedding of tokens needs rows for."""
        return FIRST_WORD + len(self.vocabulary)


def vocabulary_of(sentences: Sequence[str]) -> list[str]:
    """All words of the sentences, the most frequent first, equals by name."""
    counts = Counter(word for sentence in sentences for word in sentence.split())
    return sorted(counts, key=lambda word: (-counts[word], word))


def make_word_table(files: Mapping[str, Sequence[str]]) -> WordTable:
    """The table of sentences by file; the words of the first file are the vocabulary.

    Raises:
        ValueError: a word of another file is not in the vocabulary; names file, line and word.
    """
    vocabulary = vocabulary_of(next(iter(files.values())))
    position = {word: w for w, word in enumerate(vocabulary)}
    pairs: list[tuple[int, str, int, int]] = []
    for file, sentences in files.items():
        seen: set[str] = set()
        for row, sentence in enumerate(sentences):
            if sentence not in seen:
                seen.add(sentence)
                pairs += [(_position(word, position, file, row), file, row, count)
                          for word, count in Counter(sentence.split()).items()]
    word, file_of, row_of, occurrences = zip(*pairs, strict=True)
    return WordTable(vocabulary, np.array(word, np.int32), np.array(file_of), np.array(row_of, np.int32),
                     np.array(occurrences, np.int32))


def write_words(path: Path, table: WordTable) -> None:
    """Write the columns of `SCHEMA`, zstd-compressed, atomically; the same table gives the same bytes."""
    files = list(dict.fromkeys(table.file_P.tolist()))
    file_P = np.select([table.file_P == file for file in files], range(len(files)), 0).astype(np.int32)
    columns = [pa.DictionaryArray.from_arrays(table.word_P, table.vocabulary),
               pa.array(table.token_of(table.word_P), pa.int32()), pa.DictionaryArray.from_arrays(file_P, files),
               pa.array(table.row_P), pa.array(table.occurrences_P)]
    with atomic_write(path, "wb") as file:
        pq.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), file, compression="zstd")


def read_words(path: Path, sha256: str | None = None) -> WordTable:
    """Read the table that `write_words` wrote.

    Args:
        sha256: hex, the manifest's for this table.
    Raises:
        ValueError: no table there, not Parquet, edited, or of another format version.
    """
    table = read_table(Path(path), _FORMAT_KEY, FORMAT, "word table",
                       "run the shard stage again; shards of images have no words", sha256)
    word_P = table["token"].to_numpy() - FIRST_WORD
    name_P = table["word"].combine_chunks()
    vocabulary = [""] * (int(word_P.max()) + 1)
    for word, name in zip(*map(np.ndarray.tolist, _distinct(word_P, name_P)), strict=True):
        vocabulary[word] = name
    return WordTable(vocabulary, word_P, table["file"].combine_chunks().to_numpy(zero_copy_only=False),
                     table["row"].to_numpy(), table["occurrences"].to_numpy())


def _distinct(word_P: np.ndarray, name_P: pa.DictionaryArray) -> tuple[np.ndarray, np.ndarray]:
    words, first = np.unique(word_P, return_index=True)
    return words, name_P.take(pa.array(first)).to_numpy(zero_copy_only=False)


def _position(word: str, position: Mapping[str, int], file: str, row: int) -> int:
    if word not in position:
        raise ValueError(f"{file}, line {row + 1}: {word!r} is not among the {len(position):,} words of the training "
                         "file: the files are of different vocabularies; take all of them from one preparation")
    return position[word]
