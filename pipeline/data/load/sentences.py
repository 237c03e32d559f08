"""The sentences of a part in memory: tokens, and rows of a word and a sentence that holds it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from matchnet.tokens import END
from pipeline.data.raw.readers.sentence_files import row_of
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.reader import ShardReader
from pipeline.data.spec import Part


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
    """

    sentences: Sentences
    row_sentence_R: np.ndarray
    row_word_R: np.ndarray
    words: list[str]


def load_words(shards: ShardFolder, split: str, parts: Sequence[Part]) -> WordRows:
    """The words of `parts` in the sentences of one file: the training file if `train` is in `parts`, else the first's.

    So `test` has the test words in the test file's sentences. `train` and `valid` together have all other words in the
    training file's sentences. 2 s for the training words of the Penn Treebank, on one core.

    Raises:
        ValueError: an unknown split or part, shards edited or cut short.
    """
    pair, table = words_in_sentences(shards, split, parts), shards.words
    return WordRows(sentences=load_sentences(shards, file_of(parts)), row_sentence_R=table.row_P[pair].astype(np.int64),
                    row_word_R=table.token_of(table.word_P[pair]), words=table.vocabulary)


def file_of(parts: Sequence[Part]) -> Part:
    """The file whose sentences hold the words of these parts; see `load_words`."""
    return "train" if "train" in parts else parts[0]


def words_in_sentences(shards: ShardFolder, split: str, parts: Sequence[Part]) -> np.ndarray:
    """Positions in the word table of the pairs that `load_words` has as rows, by word and then sentence."""
    table = shards.words
    chosen = np.isin(np.array(table.vocabulary), shards.names_of(split, parts))
    pair = np.flatnonzero(chosen[table.word_P] & (table.file_P == file_of(parts)))
    return pair[np.lexsort((table.row_P[pair], table.word_P[pair]))]


def load_sentences(shards: ShardFolder, file: Part) -> Sentences:
    """All sentences of one file as tokens: what a language model reads. ValueError: shards edited or cut short."""
    shards.verify()
    index, table = shards.index, shards.words
    rows = np.flatnonzero(index.class_id_R == shards.class_names.index(file))
    line = np.array([row_of(key) for key in index.key_R.take(rows).to_pylist()], np.int64)
    with ShardReader(shards) as reader:
        words = [content.decode().split() for content in reader.read_many(rows[line.argsort()])]
    position = {word: w for w, word in enumerate(table.vocabulary)}
    word_T = np.array([position[word] for sentence in words for word in sentence], np.int64)
    starts = np.concatenate([[0], np.cumsum([len(sentence) for sentence in words])])
    return Sentences(torch.from_numpy(table.token_of(word_T)), torch.from_numpy(starts))
