"""Running text, as language models read it: sentences one after another, END after each.

Shapes: T positions in time, B streams, R words that are predicted, D directions, Y layers, H cells.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from matchnet.tokens import END


@dataclass(frozen=True)
class TextBatch:
    """A window of parallel streams of text.

    Attributes:
        token_DTB: T + 1 tokens; each but the first is a target. Those of the backward direction, D = 1, are of the text
            read backwards.
        state_D2YBH: the states of the LSTMs after the window before. None at the beginning of the text.
    """

    token_DTB: Tensor
    state_D2YBH: Tensor | None


@runtime_checkable
class TextModel(Protocol):
    """A method that learns from running text."""

    def set_targets(self, token_R: Tensor) -> None:
        """Say which tokens are predicted, the most frequent first; all others never are."""
        ...

    def perplexity(self, token_T: Tensor) -> float:
        """exp of the mean of - log P over all words and ENDs of a text."""
        ...


def one_stream(token_T: Tensor, direction: int) -> Tensor:
    """(T + 1, 1): a text in the order in which a direction reads it, from END to END."""
    stream_T = torch.cat([token_T.new_tensor([END]), token_T])
    return (stream_T.flip(0) if direction == 1 else stream_T).unsqueeze(1)
