"""Shared parts of the encoders of text: word embeddings, and the window of tokens that an encoder is given."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matchnet.tokens import FIRST_WORD, PADDING

# torch's own is 1. 5w1s4q on validation words (biLSTM, 400 steps, learning rate 2e-3): 41.4% with N(0, 1), 42.6% with
# N(0, 0.3). All later runs use 0.1, which was not measured alone.
INITIAL_STD = 0.1


class Words(nn.Embedding):
    """token int64 of any shape (...) -> (..., W). PADDING has a vector like any other: encoders must leave it out.

    Raises:
        ValueError: a token outside [0, num_words); on a GPU torch's own assertion stands in for this.
    """

    def __init__(self, num_words: int, size: int) -> None:
        super().__init__(num_words, size)
        nn.init.normal_(self.weight, std=INITIAL_STD)

    def forward(self, token: Tensor) -> Tensor:
        check_tokens(token, self.num_embeddings)
        return super().forward(token)

    def weighted_sum(self, token_BL: Tensor, weight_BL: Tensor) -> Tensor:
        """(B, W), sum over L of weight * word, without the (B, L, W) words in memory."""
        check_tokens(token_BL, self.num_embeddings)
        return F.embedding_bag(token_BL, self.weight, per_sample_weights=weight_BL, mode="sum")


def check_tokens(token: Tensor, num_words: int) -> None:
    """Raise ValueError for a token of num_words or above; tokens on a GPU are not checked, to avoid waiting."""
    if token.device.type == "cpu" and token.numel():
        largest = int(token.max())
        if largest >= num_words:
            raise ValueError(f"token {largest} with num_words = {num_words}; num_words counts the vocabulary and the "
                             f"{FIRST_WORD} tokens that are no words: set it to the dataset's")


def check_text_spec(spec: object) -> None:
    """Check num_words, sizes and dropouts of a spec: ValueError with the field, its value and the rule."""
    for field, value in vars(spec).items():
        if field == "num_words" and value <= FIRST_WORD:
            raise ValueError(f"num_words is {value}; the first {FIRST_WORD} tokens are no words, so it must be "
                             f"above that")
        if field.endswith("_size") and value < 1:
            raise ValueError(f"{field} is {value}; it must be at least 1")
        if field.endswith("dropout") and not 0 <= value < 1:
            raise ValueError(f"{field} is {value}; it must be at least 0 and below 1")


def window_length(sample_shape: tuple[int, ...]) -> int:
    """Length L of samples (L,), windows with the blank at the centre; ValueError for other samples, such as images."""
    if len(sample_shape) != 1 or sample_shape[0] % 2 == 0:
        raise ValueError(f"samples of shape {sample_shape}; an encoder of text takes windows of 2 * context + 1 "
                         f"tokens, the blank at the centre: images take encoder conv4")
    return sample_shape[0]


def padding_last(token_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Sequences with or without PADDING in front -> (the same with PADDING behind, as long as the longest; length_B).

    No sequence is all padding: BEGIN or END stands in it.
    """
    C = token_BC.shape[1]
    length_B = (token_BC != PADDING).sum(1)
    place_L = torch.arange(int(length_B.max()), device=token_BC.device)
    return token_BC.gather(1, (place_L + C - length_B.unsqueeze(1)) % C), length_B
