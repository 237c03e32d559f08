"""The mean of the words' embeddings: a simple encoder of sentences.

Vinyals et al. 2016, section 4.1.3, use "a simple encoding model" and do not say which. Chosen here is the simplest one
that learns: an embedding a word, averaged over the sentence. It knows which words are there, and neither their order
nor where the blank is.

Shapes: B samples, L tokens of a window with the blank at its centre, D embedding.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from matchnet.encoders.words import Words, check_text_spec, window_length
from matchnet.tokens import FIRST_WORD


@dataclass(frozen=True)
class BagOfWordsSpec:
    """The mean of the words' embeddings.

    Args:
        num_words: how many tokens there are, special ones included.
        embedding_size: numbers of a word's embedding.
        dropout: share of the mean's numbers that is dropped in training.
    """

    num_words: int
    name: Literal["bag_of_words"] = "bag_of_words"
    embedding_size: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_text_spec(self)


class BagOfWords(nn.Module):
    """sample_BL int64 -> embedding_BD, the mean over the window's words; PADDING, BLANK, BEGIN and END are none.

    Without any word the embedding is 0. A sentence is whole if the store's context is as long as the longest.

    Raises:
        ValueError: samples that are no windows, or a token outside [0, num_words).
    """

    def __init__(self, spec: BagOfWordsSpec, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        window_length(sample_shape)
        self.embedding_size = spec.embedding_size
        self.words = Words(spec.num_words, spec.embedding_size)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, sample_BL: Tensor) -> Tensor:
        is_word_BL = (sample_BL >= FIRST_WORD).to(self.words.weight.dtype)
        count_B1 = is_word_BL.sum(1, keepdim=True).clamp(min=1)
        return self.dropout(self.words.weighted_sum(sample_BL, is_word_BL / count_B1))
