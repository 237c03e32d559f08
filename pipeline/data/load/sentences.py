"""The sentences of a part in memory: tokens, and rows of a word and a sentence that holds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from matchnet.tokens import END
from pipeline.data.formats.word_table import WORDS, WordTable, read_words
from pipeline.data.raw.readers.sentence_files import row_of
from pipeline.data.shards.index import ShardReader, verify_shards
from pipeline.data.shards.manifest import manifest_sha256, read_manifest
from pipeline.data.spec import PARTS, Part


@dataclass(frozen=True)
class Sentences:
    """Z sentences of one file, in its order: T tokens, and where each sentence begins (Z + 1 entries)."""

    token_T: torch.Tensor
    sentence_start_Z: torch.Tensor

    def running_text(self) -> torch.Tensor:
        """The sentences one after another, END after each: int64."""
        parts, end = self.token_T.split(self.sentence_start_Z.diff().tolist()), torch.tensor([END])
        return torch.cat([token for part in parts for token in (part, end)])


@dataclass(frozen=True)
class WordRows:
    """The words of some parts of a split in the sentences of one file.

    R rows: one for each pair of a word and a sentence that holds it, by word and then sentence.

    Args:
        row_sentence_R, row_word_R: int64; the word as a token.
        words: token - FIRST_WORD -> word, of the whole vocabulary.
        manifest_sha256: names the data.
    """

    name: str
    sentences: Sentences
    row_sentence_R: np.ndarray
    row_word_R: np.ndarray
    words: list[str]
    manifest_sha256: str


def words_of(shards_dir: Path) -> WordTable:
    """The word table of a corpus. ValueError: edited or cut short, or shards of images, which have none."""
    words = read_manifest(shards_dir).words
    return read_words(Path(shards_dir) / WORDS, words.sha256 if words else None)


def load_words(shards_dir: Path, split: str, parts: Sequence[Part]) -> WordRows:
    """The words of `parts` in the sentences of the training file where `train` is one of them, else of the first's.

    So `test` has the test words in the test file's sentences, and `train`, `valid` together all words that are not for
    test in the training file's. 2 s for the training words of the Penn Treebank, on one core.

    Raises:
        ValueError: an unknown split or part, shards edited or cut short.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"parts: {unknown[0]!r} is not a part of a split; name some of {', '.join(PARTS)}")
    shards_dir = Path(shards_dir)
    verify_shards(shards_dir)
    file: Part = "train" if "train" in parts else parts[0]
    table = words_of(shards_dir)
    with ShardReader(shards_dir) as reader:
        manifest, names = reader.manifest, reader.manifest.split(split)
        sentences = _read_file(reader, file, table)
    chosen = np.isin(np.array(table.vocabulary), [name for part in parts for name in names[part]])
    pair = np.flatnonzero(chosen[table.word_P] & (table.file_P == file))
    pair = pair[np.lexsort((table.row_P[pair], table.word_P[pair]))]
    return WordRows(name=manifest.name, sentences=sentences, row_sentence_R=table.row_P[pair].astype(np.int64),
                    row_word_R=table.token_of(table.word_P[pair]), words=table.vocabulary,
                    manifest_sha256=manifest_sha256(shards_dir))


def load_sentences(shards_dir: Path, file: Part) -> Sentences:
    """All sentences of one file as tokens: what a language model reads. ValueError: shards edited or cut short."""
    verify_shards(shards_dir)
    with ShardReader(shards_dir) as reader:
        return _read_file(reader, file, words_of(shards_dir))


def _read_file(reader: ShardReader, file: Part, table: WordTable) -> Sentences:
    class_id = [entry.name for entry in reader.manifest.classes].index(file)
    rows = np.flatnonzero(reader.index.class_id_R == class_id)
    line = np.array([row_of(key) for key in reader.index.key_R.take(rows).to_pylist()], np.int64)
    words = [content.decode().split() for content in reader.read_many(rows[line.argsort()])]
    position = {word: w for w, word in enumerate(table.vocabulary)}
    word_T = np.array([position[word] for sentence in words for word in sentence], np.int64)
    starts = np.concatenate([[0], np.cumsum([len(sentence) for sentence in words])])
    return Sentences(torch.from_numpy(table.token_of(word_T)), torch.from_numpy(starts))
