"""Windows around a blank, against a slow reference; nothing of the word is left in them."""

import numpy as np
import pytest
import torch

from matchnet.text import SentenceStore
from matchnet.tokens import BEGIN, BLANK, END, FIRST_WORD, PADDING

SENTENCES = [[4, 5, 6, 5, 7], [8], [9, 9, 9], [4, 10, 11, 12, 13, 14, 15, 4, 16]]


def store_of(sentences: list[list[int]], rows: list[tuple[int, int]], context: int,
             blank: bool = True) -> SentenceStore:
    """Rows are (sentence, word)."""
    token_T = torch.tensor([token for sentence in sentences for token in sentence], dtype=torch.int32)
    start_Z = torch.tensor([0, *np.cumsum([len(sentence) for sentence in sentences])])
    sentence_R, word_R = torch.tensor(rows).T
    return SentenceStore(token_T, start_Z, sentence_R, word_R, context, blank)


def window(sentence: list[int], word: int, context: int, blank: bool = True) -> list[int]:
    """The same with lists: the sentence between its marks, cut or padded to `context` on each side of the word."""
    middle = sentence.index(word)
    seen = [BLANK if token == word and blank else token for token in sentence]
    left, right = [BEGIN, *seen[:middle]], [*seen[middle + 1:], END]
    left = [PADDING] * (context - len(left)) + left[-context:]
    right = right[:context] + [PADDING] * (context - len(right))
    return [*left, BLANK if blank else word, *right] + ([] if blank else [word])


def random_corpus(seed: int) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Short sentences of few words, which so repeat; all pairs of a word and its sentence, shuffled."""
    random = np.random.default_rng(seed)
    sentences = [random.integers(FIRST_WORD, FIRST_WORD + 9, random.integers(1, 14)).tolist() for _ in range(60)]
    rows = [(z, word) for z, sentence in enumerate(sentences) for word in set(sentence)]
    return sentences, [rows[i] for i in random.permutation(len(rows))]


@pytest.mark.parametrize("context", [1, 2, 5, 30])
@pytest.mark.parametrize("blank", [True, False])
def test_every_window_is_that_of_the_slow_reference(context: int, blank: bool) -> None:
    for sentences, rows in (random_corpus(0), random_corpus(1), (SENTENCES, [(3, 16), (0, 5), (1, 8), (2, 9)])):
        samples = store_of(sentences, rows, context, blank).gather(torch.arange(len(rows)))
        assert samples.tolist() == [window(sentences[z], word, context, blank) for z, word in rows]


def test_a_word_that_occurs_twice_leaves_no_trace() -> None:
    sentences, rows = random_corpus(2)
    store = store_of(sentences, rows, 20)
    for (z, word), sample in zip(rows, store.gather(torch.arange(len(rows))).tolist(), strict=True):
        assert word not in sample
        assert sample.count(BLANK) == sentences[z].count(word) and sample[20] == BLANK


def test_a_sentence_is_the_same_whichever_word_fills_the_blanks() -> None:
    """Two corpora that differ in the word alone give the same sample."""
    first, second = [[5, 6, 7, 5, 8]], [[9, 6, 7, 9, 8]]
    assert torch.equal(store_of(first, [(0, 5)], 4).gather(torch.tensor([0])),
                       store_of(second, [(0, 9)], 4).gather(torch.tensor([0])))


def test_no_window_sees_another_sentence() -> None:
    sentences, rows = [[10 * z + 4 + i for i in range(5)] for z in range(8)], [(z, 10 * z + 4) for z in range(8)]
    samples = store_of(sentences, rows, 3).gather(torch.arange(8))
    for z, sample in enumerate(samples.tolist()):
        assert {token // 10 for token in sample if token >= FIRST_WORD} <= {z}


def test_rows_of_any_shape() -> None:
    sentences, rows = random_corpus(3)
    store = store_of(sentences, rows, 6)
    wanted = torch.tensor([[5, 0, 2], [3, 3, 1]])
    samples = store.gather(wanted)
    assert len(store) == len(rows) and store.sample_shape == (13,)
    assert samples.shape == (2, 3, 13) and samples.dtype == torch.int64
    assert torch.equal(samples[1, 2], store.gather(torch.tensor([1]))[0])
    assert store.gather(wanted[:, :0]).shape == (2, 0, 13)
    assert store_of(sentences, rows, 6, blank=False).sample_shape == (14,)


def test_what_is_gathered_is_a_copy() -> None:
    store = store_of(SENTENCES, [(0, 5)], 3)
    before = store.gather(torch.tensor([0])).clone()
    store.gather(torch.tensor([0])).fill_(99)
    assert torch.equal(store.gather(torch.tensor([0])), before)


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="context is 0; it must be at least 1 word on each side of the blank"):
        store_of(SENTENCES, [(0, 5)], 0)
    message = r"token 8 is not in sentence 0, but row 1 says so; rows and sentences are of different corpora: shard"
    with pytest.raises(ValueError, match=message):
        store_of(SENTENCES, [(0, 5), (0, 8)], 3)
    with pytest.raises(ValueError, match="token 99 is not in sentence 3, but row 0 says so"):
        store_of(SENTENCES, [(3, 99)], 3)
