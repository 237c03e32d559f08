"""A bidirectional LSTM read at the blank: one LSTM reads the words before it, another those after it, backwards.

Melamud, Goldberger and Dagan 2016, context2vec: learning generic context embedding with bidirectional LSTM.

Shapes: B samples, L tokens of a window with the blank at its centre, C tokens on one side of it.
W numbers of a word's embedding, H numbers of one LSTM's state, D embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from matchnet.encoders.words import Words, check_text_spec, padding_last, window_length


@dataclass(frozen=True)
class BiLstmSpec:
    """The states of a forward and a backward LSTM at the blank.

    Args:
        num_words: how many tokens there are, special ones included.
        word_size: numbers of a word's embedding.
        state_size: numbers of the state of each LSTM.
        dropout: share of the embeddings' and the last states' numbers that is dropped in training.
    """

    num_words: int
    name: Literal["bilstm"] = "bilstm"
    word_size: int = 128
    state_size: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_text_spec(self)


class BiLstm(nn.Module):
    """sample_BL int64 -> embedding_BD, the last states of both LSTMs side by side: D = 2 * state_size.

    Each pass begins at the edge of the sentence or of the window. PADDING is not read.

    Raises:
        ValueError: samples that are no windows, or a token outside [0, num_words).
    """

    def __init__(self, spec: BiLstmSpec, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.centre = window_length(sample_shape) // 2
        self.embedding_size = 2 * spec.state_size
        self.words = Words(spec.num_words, spec.word_size)
        self.before = nn.LSTM(spec.word_size, spec.state_size, batch_first=True)
        self.after = nn.LSTM(spec.word_size, spec.state_size, batch_first=True)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, sample_BL: Tensor) -> Tensor:
        before_BC, after_BC = sample_BL[:, :self.centre], sample_BL[:, self.centre + 1:].flip(1)
        states = [self.last_state(self.before, before_BC), self.last_state(self.after, after_BC)]
        return self.dropout(torch.cat(states, dim=1))

    def last_state(self, lstm: nn.LSTM, token_BC: Tensor) -> Tensor:
        """(B, H): the state after the last token. The LSTM only looks back, so later tokens do not matter."""
        token_BC, length_B = padding_last(token_BC)
        state_BCH, _ = lstm(self.dropout(self.words(token_BC)))
        return state_BCH[torch.arange(len(token_BC), device=token_BC.device), length_B - 1]
