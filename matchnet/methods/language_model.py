"""An LSTM language model, which is also the oracle of the one-shot language task.

Zaremba, Sutskever, Vinyals 2014, Recurrent neural network regularization (arXiv 1409.2329). As the oracle of Vinyals et
al. 2016, section 4.1.3: "a sentence was presented to the model with a single word filled in with 5 different possible
words (including the correct answer). For each of these 5 sentences the model gave a log-likelihood and the max of these
was taken to be the choice of the model."

Shapes of episodes: E episodes, S support items, Q queries, N ways, L tokens of a sample.
Shapes of scoring: U different sentences, P pairs of a sentence and a candidate word.
Shapes of the network: T positions in time, B streams or sentences at once, V tokens there are, R rows of the softmax, H
cells, Y layers, D directions.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from matchnet.encoders.language_model import Reader, ReaderSpec
from matchnet.encoders.words import check_tokens
from matchnet.methods.base import Method
from matchnet.running_text import TextBatch, one_stream
from matchnet.tokens import BEGIN, END, PADDING

NO_TARGET = -1  # the row of a token that is never predicted
AT_ONCE = 512  # sentences scored together: their states and gates fit a core's cache
# Most pairs of one softmax: 200 MB for the 6,000 words of the last tail. A matrix product of few rows may round
# differently. With thousands of rows, each row has the same bits as among all pairs.
PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class LanguageModelSpec:
    """The LSTM language model that serves as oracle of the language task.

    Args:
        reader: its LSTMs.
        cutoffs: where the softmax over words, in order of frequency, is cut into a head and tails; see LanguageModel.
    """

    name: Literal["language_model"] = "language_model"
    reader: ReaderSpec = field(default_factory=lambda: ReaderSpec(num_words=10_003))
    cutoffs: tuple[int, ...] = (1000, 4000)

    def __post_init__(self) -> None:
        if not self.cutoffs or any(b <= a for a, b in zip((0, *self.cutoffs), self.cutoffs, strict=False)):
            raise ValueError(f"cutoffs is {list(self.cutoffs)}; it must be at least one number of words, ascending")


class LanguageModel(Method):
    """P(text) = prod_t P(w_t | w_1 .. w_t-1): END separates sentences, and is a target like the words.

    The softmax has one row for each target. Other tokens have no row, and their positions are left out of the loss and
    the perplexity. The model reads such tokens as context, and learns nothing else of them.

    The softmax is cut by frequency, as in Grave et al. 2017, Efficient softmax approximation for GPUs (arXiv
    1609.04309), with all cells for every piece: P(w) = P(piece of w) P(w | piece). It is a distribution over all rows
    like the plain softmax. The first 1,000 words make up 79% of the Penn Treebank, so few positions need more. On one
    core, a training step of the small model on 700 tokens takes 84 to 100 ms. A plain softmax's forward and backward
    alone take 93 ms.

    The sizes are those of Zaremba et al.'s small model. Departs from it in these points:

    - AdamW with a cosine schedule instead of SGD.
    - Dropout of 0.2 as trained here (params.yaml); their small model has none.
    - Weights start in +-0.05; theirs start in +-0.1.
    - The softmax is cut by frequency and has no bias; its tails stand behind a linear map.
    """

    row_V: Tensor

    def __init__(self, spec: LanguageModelSpec, num_targets: int) -> None:
        super().__init__()
        if num_targets <= spec.cutoffs[-1]:
            raise ValueError(f"cutoffs is {list(spec.cutoffs)} for {num_targets} words that are predicted; all must be "
                             "below that")
        self.reader = Reader(spec.reader)
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(spec.reader.num_cells, num_targets, list(spec.cutoffs),
                                                     div_value=1)
        self.register_buffer("row_V", torch.full((spec.reader.num_words,), NO_TARGET))

    def set_targets(self, token_R: Tensor) -> None:
        """Set the tokens that are predicted, the most frequent first; all other tokens are never predicted.

        Raises:
            ValueError: not as many as the softmax has rows; a token that is none of num_words.
        """
        check_tokens(token_R, len(self.row_V))
        if len(token_R) != self.softmax.n_classes:
            raise ValueError(f"{len(token_R)} words to predict for a softmax of {self.softmax.n_classes}")
        self.row_V.fill_(NO_TARGET)[token_R] = torch.arange(len(token_R), device=self.row_V.device)

    # ---- training ----

    def forward(self, batch: TextBatch) -> dict[str, Tensor]:  # type: ignore[override]
        """{"loss": nats a target, the mean over directions; "state": to go on with, detached}."""
        losses, states = [], []
        for direction in range(len(self.reader.directions)):
            token_TB = batch.token_DTB[direction]
            before = None if batch.state_D2YBH is None else batch.state_D2YBH[direction]
            output_TBH, state = self.reader(token_TB[:-1], direction, before)
            losses.append(self.mean_loss(output_TBH.flatten(0, 1), token_TB[1:].flatten()))
            states.append(state.detach())
        return {"loss": torch.stack(losses).mean(), "state": torch.stack(states)}

    def mean_loss(self, output_BH: Tensor, token_B: Tensor) -> Tensor:
        """Minus the mean of log P over the tokens that are targets, in nats."""
        return -self.log_prob(output_BH, token_B).sum() / (self.row_V[token_B] != NO_TARGET).sum().clamp(min=1)

    def log_prob(self, output_BH: Tensor, token_B: Tensor) -> Tensor:
        """log P(token | what was read), nats: (B,); 0 for a token that is no target."""
        check_tokens(token_B, len(self.row_V))
        row_B = self.row_V[token_B]
        target_B = (row_B != NO_TARGET).nonzero().squeeze(1)
        with torch.autocast(output_BH.device.type, enabled=False):  # bf16 is too coarse; the softmax is float32
            found = self.softmax(output_BH[target_B].float(), row_B[target_B]).output
        return found.new_zeros(len(token_B)).index_copy(0, target_B, found)

    @torch.inference_mode()
    def perplexity(self, token_T: Tensor) -> float:
        """exp of the mean of - log P over all words and ENDs of a text, read in one stream from its beginning.

        Published figures are measured in the same way (Zaremba et al. 2014 and after). The mean is over both
        directions, if there are two, and only over tokens that are targets.

        Args:
            token_T: int64, the sentences one after another, END after each.
        """
        self.eval()
        total, count = 0.0, 0
        for direction in range(len(self.reader.directions)):
            stream_T1, state = one_stream(token_T, direction), None
            for start in range(0, len(token_T), AT_ONCE):
                token_T1 = stream_T1[start:start + AT_ONCE + 1]
                output_T1H, state = self.reader(token_T1[:-1], direction, state)
                total -= float(self.log_prob(output_T1H.squeeze(1), token_T1[1:, 0]).double().sum())
            count += int((self.row_V[stream_T1[1:, 0]] != NO_TARGET).sum())
        return math.exp(total / count)

    # ---- the oracle ----

    def embed(self, sample_B: Tensor) -> Tensor:
        """The sentence itself, its word in place and appended to it; `classify` does what depends on the candidates."""
        return sample_B

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        """Classify by the log-likelihood of the query's sentence with each way's word; the support gives the words.

        Args:
            support_ES, query_EQ: sentences (E, S, L) as a SentenceStore with `blank=False` gives them, maybe as floats.
        Raises:
            ValueError: a candidate that this model does not predict, or that is none of num_words.
        """
        E, Q = query_EQ.shape[:2]
        word_EN = torch.empty(E, num_ways, dtype=torch.int64, device=way_ES.device)
        word_EN.scatter_(1, way_ES, support_ES[..., -1].long())
        check_tokens(word_EN, len(self.row_V))
        unknown = word_EN[self.row_V[word_EN] == NO_TARGET]
        if len(unknown):
            raise ValueError(f"token {int(unknown[0])} is a candidate, and this language model does not predict it: an "
                             "oracle is trained with `targets: all`")
        sentence_UL, sentence_EQ = query_EQ.long().flatten(0, 1).unique(dim=0, return_inverse=True)
        pair_EQN = sentence_EQ.view(E, Q, 1) * len(self.row_V) + word_EN.unsqueeze(1)
        pair_P, pair_EQN = pair_EQN.unique(return_inverse=True)
        score_P = self.score(sentence_UL, pair_P // len(self.row_V), pair_P % len(self.row_V))
        return score_P[pair_EQN].log_softmax(-1)

    def score(self, sentence_UL: Tensor, sentence_P: Tensor, word_P: Tensor) -> Tensor:
        """Log-likelihood of sentences with words filled in at all places of their own, over all directions: (P,).

        The part of a sentence before the first such place is the same for all words: it is read once and not counted.
        """
        token_UL = sentence_UL[:, :-1].masked_fill(sentence_UL[:, :-1] == BEGIN, END)
        score_P = torch.zeros(len(word_P), device=word_P.device)
        for direction in range(len(self.reader.directions)):
            text_UL = token_UL if direction == 0 else token_UL.flip(1)
            score_P += self._score_one_way(text_UL, sentence_UL[:, -1:], sentence_P, word_P, direction)
        return score_P

    def _score_one_way(self, text_UL: Tensor, own_U1: Tensor, sentence_P: Tensor, word_P: Tensor,
                       direction: int) -> Tensor:
        blank_UL = text_UL == own_U1
        first_U, start_U = blank_UL.int().argmax(1), (text_UL != PADDING).int().argmax(1)
        length_U = start_U + (text_UL != PADDING).sum(1)
        output_UH, state_U2YH = self._read_to(text_UL, start_U, first_U, direction)
        num_chunks = max(math.ceil(len(word_P) / PAIRS_AT_ONCE), 1)
        score_P = torch.cat([self.log_prob(output_UH[sentence_B], word_B) for sentence_B, word_B in
                             zip(sentence_P.tensor_split(num_chunks), word_P.tensor_split(num_chunks), strict=True)])
        for rest, chunk_B in _of_equal(length_U[sentence_P] - first_U[sentence_P]):
            if rest == 1:
                continue  # the word is the last of the text
            sentence_B = sentence_P[chunk_B]
            places_BT = first_U[sentence_B].unsqueeze(1) + torch.arange(rest, device=text_UL.device)
            text_BT, is_blank_BT = (of_UL[sentence_B].gather(1, places_BT) for of_UL in (text_UL, blank_UL))
            text_TB = torch.where(is_blank_BT, word_P[chunk_B].unsqueeze(1), text_BT).T
            output_TBH, _ = self.reader(text_TB[:-1], direction, state_U2YH[sentence_B].permute(1, 2, 0, 3))
            log_prob_TB = self.log_prob(output_TBH.flatten(0, 1), text_TB[1:].flatten())
            score_P[chunk_B] += log_prob_TB.view(rest - 1, -1).sum(0)
        return score_P

    def _read_to(self, text_UL: Tensor, start_U: Tensor, first_U: Tensor, direction: int) -> tuple[Tensor, Tensor]:
        """Last output and state (U, 2, Y, H) after the tokens before `first`; zeros where the word is the first."""
        spec = self.reader.spec
        output_UH = torch.zeros(len(text_UL), spec.num_cells, device=text_UL.device)
        state_U2YH = torch.zeros(len(text_UL), 2, spec.num_layers, spec.num_cells, device=text_UL.device)
        for count, chunk_B in _of_equal(first_U - start_U):
            if count == 0:
                continue
            places_BT = start_U[chunk_B].unsqueeze(1) + torch.arange(count, device=text_UL.device)
            output_TBH, state = self.reader(text_UL[chunk_B].gather(1, places_BT).T, direction, None)
            output_UH[chunk_B], state_U2YH[chunk_B] = output_TBH[-1], state.permute(2, 0, 1, 3)
        return output_UH, state_U2YH


def _of_equal(number_B: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Positions of equal numbers together, at most AT_ONCE, so that no padding is needed."""
    order_B = number_B.argsort(stable=True)
    numbers, counts = number_B[order_B].unique_consecutive(return_counts=True)
    for number, group in zip(numbers.tolist(), order_B.split(counts.tolist()), strict=True):
        for chunk in group.split(AT_ONCE):
            yield number, chunk
