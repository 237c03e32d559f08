"""The states of LSTM language models around the blank: their predictions of the blanked word.

The paper's future work: "combining parametric models such as an LSTM-LM with non-parametric components such as the
Matching Networks explored here"  [Vinyals et al. 2016, section 4.1.3]. The LSTM is that of Zaremba, Sutskever, Vinyals
2014, Recurrent neural network regularization (arXiv 1409.2329). One LSTM reads forward, another backward, and both use
one table of word embeddings, as in Peters et al. 2018 (ELMo, arXiv 1802.05365).

Shapes: B samples, L tokens of one, T positions in time, V tokens there are, H cells, Y layers, D directions.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from matchnet.encoders.words import check_tokens, padding_last, window_length
from matchnet.tokens import BEGIN, END

INITIAL = 0.05  # weights start uniform in +- this: Zaremba et al.'s medium model; their small one has 0.1


@dataclass(frozen=True)
class ReaderSpec:
    """The LSTMs of a language model.

    Args:
        num_words: how many tokens there are, special ones included.
        direction: `both` is a forward and a backward LSTM.
        num_layers: layers of each LSTM.
        num_cells: cells of each layer, and numbers of a word's embedding.
        dropout: share that is dropped of what goes into each layer and out of the last. Recurrent connections have
            none.
        mask: `plain` draws the dropped cells anew at each position (Zaremba et al.). `variational` draws them once for
            all positions of a window (Gal and Ghahramani 2016, arXiv 1512.05287, without their mask on recurrent
            connections).
    """

    num_words: int
    direction: Literal["forward", "both"] = "forward"
    num_layers: int = 2
    num_cells: int = 200
    dropout: float = 0.0
    mask: Literal["plain", "variational"] = "plain"

    def __post_init__(self) -> None:
        for field in ("num_words", "num_layers", "num_cells"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")

    @property
    def num_directions(self) -> int:
        return 2 if self.direction == "both" else 1


class Reader(nn.Module):
    """Word embeddings and an LSTM for each direction. A backward one is given its tokens in the order it reads them.

    Raises:
        ValueError: a token outside [0, num_words), as `Words`.
    """

    def __init__(self, spec: ReaderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.num_words, spec.num_cells)
        self.directions = nn.ModuleList(
            nn.ModuleList(nn.LSTM(spec.num_cells, spec.num_cells) for _ in range(spec.num_layers))
            for _ in range(spec.num_directions))
        for weight in self.parameters():
            nn.init.uniform_(weight, -INITIAL, INITIAL)

    def forward(self, token_TB: Tensor, direction: int, state_2YBH: Tensor | None) -> tuple[Tensor, Tensor]:
        """(output_TBH of the last layer, the state after the last token): hidden and cell of each layer; None is 0."""
        value_TBH, states = self.drop(self.embed(token_TB)), []
        for y, layer in enumerate(self.layers(direction)):
            before = None if state_2YBH is None else tuple(state_2YBH[:, y:y + 1].contiguous())
            value_TBH, after = layer(value_TBH, before)
            value_TBH = self.drop(value_TBH)
            states.append(torch.cat(after))
        return value_TBH, torch.stack(states, dim=1)

    def last_outputs(self, token_BL: Tensor, direction: int) -> Tensor:
        """(B, H): the last layer's output after the last token; each row is read from its first that is not PADDING."""
        token_BL, length_B = padding_last(token_BL)
        packed = pack_padded_sequence(self.drop(self.embed(token_BL)), length_B.cpu(), batch_first=True,
                                      enforce_sorted=False)
        last_BH = packed.data
        for layer in self.layers(direction):
            packed, (last_1BH, _) = layer(packed)
            packed, last_BH = PackedSequence(self.drop(packed.data), *packed[1:]), last_1BH[0]
        return self.drop(last_BH)

    def embed(self, token: Tensor) -> Tensor:
        check_tokens(token, self.spec.num_words)
        return self.embedding(token)

    def layers(self, direction: int) -> nn.ModuleList:
        layers = self.directions[direction]
        assert isinstance(layers, nn.ModuleList)
        return layers

    def drop(self, value: Tensor) -> Tensor:
        """Dropout; a variational mask is drawn for (B, H), and holds at every position in time."""
        if self.spec.mask == "plain" or value.ndim == 2:
            return nn.functional.dropout(value, self.spec.dropout, self.training)
        return value * nn.functional.dropout(torch.ones_like(value[0]), self.spec.dropout, self.training)


@dataclass(frozen=True)
class LanguageModelStatesSpec:
    """The states of a forward and a backward language model. The weights come from the model that `from:` names.

    Args:
        reader: of the same sizes as that model's. Its dropout is this encoder's own. Its mask is `plain`: samples have
            different lengths and are packed, so a mask cannot hold for a position.
        frozen: true leaves the language model as it is, and trains what follows it.
        embedding_size: numbers of a linear map of the states. Null compares the states as they are.
    """

    reader: ReaderSpec
    name: Literal["language_model"] = "language_model"
    frozen: bool = False
    embedding_size: int | None = None

    def __post_init__(self) -> None:
        if self.reader.direction != "both":
            raise ValueError(f"reader.direction is {self.reader.direction!r}; around a blank both are read: write both")
        if self.reader.mask != "plain":
            raise ValueError(f"reader.mask is {self.reader.mask!r}; samples around a blank are read packed, which has "
                             "plain masks alone: write plain, whatever the language model was trained with")
        if self.embedding_size is not None and self.embedding_size < 1:
            raise ValueError(f"embedding_size is {self.embedding_size}; it must be at least 1, or null for no map")


class LanguageModelStates(nn.Module):
    """sample_BL int64 -> embedding_BD: the state of each language model when it comes to the blank, side by side.

    The forward model stops before the blank and the backward model after it, so neither reads the word at the blank.
    BEGIN and END are both the END that parts sentences in a text. At other occurrences of the word the models read
    BLANK, a token that no text had in training. Its embedding is still near 0, as at first; if `frozen`, it stays so.

    Raises:
        ValueError: samples that are no windows around a blank.
    """

    def __init__(self, spec: LanguageModelStatesSpec, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.centre, self.frozen = window_length(sample_shape) // 2, spec.frozen
        self.reader = Reader(spec.reader)
        self.reader.requires_grad_(not spec.frozen)
        num_states = 2 * spec.reader.num_cells
        self.embedding_size = spec.embedding_size or num_states
        self.linear = nn.Linear(num_states, self.embedding_size) if spec.embedding_size else nn.Identity()

    def forward(self, sample_BL: Tensor) -> Tensor:
        token_BL = sample_BL.masked_fill(sample_BL == BEGIN, END)
        before_BC, after_BC = token_BL[:, :self.centre], token_BL[:, self.centre + 1:].flip(1)
        states = [self.reader.last_outputs(before_BC, 0), self.reader.last_outputs(after_BC, 1)]
        return self.linear(torch.cat(states, dim=1))

    def train(self, mode: bool = True) -> "LanguageModelStates":
        """A frozen language model has no dropout either."""
        super().train(mode)
        self.reader.train(mode and not self.frozen)
        return self
