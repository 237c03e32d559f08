"""Word embeddings weighted by their place beside the blank: the context of a log-bilinear language model.

Mnih and Kavukcuoglu 2013, Learning word embeddings efficiently with noise-contrastive estimation: vLBL, whose context
matrices are diagonal, with words on both sides as in their section 3.

Shapes: B samples, L tokens of a window with the blank at its centre, D embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from matchnet.encoders.words import Words, check_text_spec, window_length
from matchnet.tokens import PADDING


@dataclass(frozen=True)
class WindowSpec:
    """The embeddings of the words around the blank, each at its place.

    Args:
        num_words: how many tokens there are, special ones included.
        embedding_size: numbers of a word's embedding.
        dropout: share of the embeddings' numbers that is dropped in training.
    """

    num_words: int
    name: Literal["window"] = "window"
    embedding_size: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_text_spec(self)


class Window(nn.Module):
    """sample_BL int64 -> embedding_BD = sum over places of weight_LD * word_BLD; BEGIN and END are words here.

    Raises:
        ValueError: samples that are no windows, or a token outside [0, num_words).
    """

    def __init__(self, spec: WindowSpec, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        length = window_length(sample_shape)
        self.embedding_size = spec.embedding_size
        self.words = Words(spec.num_words, spec.embedding_size)
        # A nearer word says more: its weight starts at 1 / distance. BLANK, at the centre, adds a constant.
        distance_L = (torch.arange(length) - length // 2).abs().clamp(min=1)
        self.weight_LD = nn.Parameter((1 / distance_L).unsqueeze(1).repeat(1, spec.embedding_size))
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, sample_BL: Tensor) -> Tensor:
        is_there_BL1 = (sample_BL != PADDING).unsqueeze(2)
        word_BLD = self.dropout(self.words(sample_BL)) * is_there_BL1
        return (word_BLD * self.weight_LD).sum(1)
