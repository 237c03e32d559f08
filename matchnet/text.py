"""Sentences as samples: a window of tokens around a blank  [Vinyals et al. 2016, section 4.1.3].

A row of the store is a word and a sentence that holds it. Its sample is centred on the word's first occurrence in the
sentence. Every occurrence of the word is BLANK, so that the sample does not show the word.

Shapes: T tokens of all sentences, Z sentences, R rows, L tokens of a sample.
"""

import numpy as np
import torch
from torch import Tensor

from matchnet.store import Store
from matchnet.tokens import BEGIN, BLANK, END, PADDING


class SentenceStore(Store):
    """Rows (word, sentence) as windows: `context` tokens on each side of the blank, L = 2 * context + 1.

    BEGIN stands before a sentence's first word, END after its last, PADDING beyond; words further than `context` from
    the blank are cut.

    Args:
        token_T: the words of all sentences, int32 or int64.
        sentence_start_Z: where each sentence begins in token_T. One more entry says where the last sentence ends.
        row_sentence_R: the sentence of each row.
        row_word_R: the word of each row, a token of its sentence.
        context: at least 1.
        blank: False leaves the word in its place, and appends it to the sample, L = 2 * context + 2. An oracle needs
            this: it sees each candidate in the word's place.
    Raises:
        ValueError: a word that is not in the sentence of its row; names word, sentence and row.
    """

    def __init__(self, token_T: Tensor, sentence_start_Z: Tensor, row_sentence_R: Tensor, row_word_R: Tensor,
                 context: int, blank: bool = True) -> None:
        if context < 1:
            raise ValueError(f"context is {context}; it must be at least 1 word on each side of the blank")
        self.context, self.blank = context, blank
        self.sample_shape: tuple[int, ...] = (2 * context + (1 if blank else 2),)
        self.sentence_R, self.word_R = row_sentence_R.long(), row_word_R.int()
        stream, first_word_Z = _spread_out(token_T.int(), sentence_start_Z.long(), context)
        place_R = _first_places(token_T.long(), sentence_start_Z.long(), self.sentence_R, row_word_R.long())
        # where the window of a row begins in the stream
        self.start_R = first_word_Z[self.sentence_R] + place_R - context
        self.windows_PL = stream.unfold(0, 2 * context + 1, 1)  # a view: one window at each place of the stream

    def __len__(self) -> int:
        return len(self.start_R)

    def gather(self, rows: Tensor) -> Tensor:
        """rows int64 of any shape (...) -> samples (..., L) int64."""
        row_B = rows.reshape(-1).to(self.start_R.device)
        sample_BL = self.windows_PL.index_select(0, self.start_R.index_select(0, row_B))
        word_B1 = self.word_R.index_select(0, row_B).unsqueeze(1)
        if self.blank:
            sample_BL.masked_fill_(sample_BL == word_B1, BLANK)
        else:
            sample_BL = torch.cat([sample_BL, word_B1], dim=1)
        return sample_BL.long().view(*rows.shape, *self.sample_shape)


def _spread_out(token_T: Tensor, sentence_start_Z: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """All sentences in one stream, with BEGIN, END and enough padding between that no window meets two sentences.

    Returns:
        (stream, place of each sentence's first word in it)
    """
    length_Z = sentence_start_Z.diff()
    room_Z = length_Z + 2 + context
    begin_Z = context + room_Z.cumsum(0) - room_Z
    stream = torch.full((context + int(room_Z.sum()),), PADDING, dtype=token_T.dtype)
    stream[begin_Z], stream[begin_Z + length_Z + 1] = BEGIN, END
    shift_T = (begin_Z + 1 - sentence_start_Z[:-1]).repeat_interleave(length_Z)
    stream[torch.arange(len(token_T)) + shift_T] = token_T
    return stream, begin_Z + 1


def _first_places(token_T: Tensor, sentence_start_Z: Tensor, row_sentence_R: Tensor, row_word_R: Tensor) -> Tensor:
    """Position in its sentence of the first occurrence of each row's word."""
    length_Z = sentence_start_Z.diff()
    sentence_T = torch.arange(len(length_Z)).repeat_interleave(length_Z)
    num_tokens = int(max(token_T.max(), row_word_R.max())) + 1 if len(token_T) and len(row_word_R) else 1
    pairs, first = np.unique((sentence_T * num_tokens + token_T).numpy(), return_index=True)
    wanted_R = (row_sentence_R * num_tokens + row_word_R).numpy()
    found_R = np.searchsorted(pairs, wanted_R).clip(max=max(len(pairs) - 1, 0))
    absent = np.flatnonzero(pairs[found_R] != wanted_R) if len(pairs) else np.arange(len(wanted_R))
    if len(absent):
        row = int(absent[0])
        raise ValueError(f"token {int(row_word_R[row])} is not in sentence {int(row_sentence_R[row])}, but row {row} "
                         "says so; rows and sentences are of different corpora: shard the dataset again")
    return torch.from_numpy(first[found_R]) - sentence_start_Z[row_sentence_R]
