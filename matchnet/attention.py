"""The attention kernel a(x^, x_i), and attending with it  [Vinyals et al. 2016, section 2.1].

Shapes: E episodes, Q queries, S support items, N ways, D embedding.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matchnet.running_attention import (
    MOST_SCORES,
    Support,
    at_least_float32,
    log_probs_in_chunks,
    log_sums_by_way,
    nearest_items,
    own_way_in_chunks,
)

Kernel = Literal["cosine", "dot_product", "euclidean", "projection"]


@dataclass(frozen=True)
class AttentionSpec:
    """Which similarity the softmax is over, and what it is multiplied with.

    Args:
        kernel: `cosine` is the paper's. `dot_product` is the plain one. `euclidean` is minus the squared distance.
            `projection` is the dot product of the query with the unit support vector, which is the cosine times the
            norm of the query; easyfsl and meta-dataset use it.
        scale: `none` (the paper's formula), `fixed`, or `learned` through its logarithm.
        scale_value: the fixed scale, or the one that learning starts from.
    """

    kernel: Kernel = "cosine"
    scale: Literal["none", "fixed", "learned"] = "learned"
    scale_value: float = 10.0

    def __post_init__(self) -> None:
        if not self.scale_value > 0:
            raise ValueError(f"scale_value is {self.scale_value}; a scale is above 0 (30 is usual for cosines)")


def require_no_learning(spec: AttentionSpec) -> None:
    """Raise ValueError for a learned scale in a method that is not trained through its attention."""
    if spec.scale == "learned":
        raise ValueError(f"attention.scale is learned, and no training reaches it; write fixed (scale_value is "
                         f"{spec.scale_value})")


class Attention(nn.Module):
    """log P(y|x^, S) by a softmax over the support set of a scaled similarity.

    Departs from the paper, by default, in the scale. Cosines lie in [-1, 1], so no item's weight is more than e^2 times
    another's, and training stalls. The row `short-cosine` of results/omniglot.md shows the loss in accuracy.

    nearest: a number lets a query of a test attend only to so many support items, those with the highest scores.
    """

    nearest: int | None = None

    def __init__(self, spec: AttentionSpec) -> None:
        super().__init__()
        self.kernel = spec.kernel
        value = torch.tensor(1.0 if spec.scale == "none" else spec.scale_value).log()
        self.log_scale = nn.Parameter(value, requires_grad=spec.scale == "learned")

    def forward(self, query_EQD: Tensor, support_ESD: Tensor, way_ES: Tensor, num_ways: int) -> Tensor:
        with torch.autocast(query_EQD.device.type, enabled=False):  # scores of 8 bits (bf16) are too coarse for exp
            query_EQD, support_ESD = at_least_float32(query_EQD), at_least_float32(support_ESD)
            if self.nearest is not None and not self.training:
                return self._attend_to_nearest(self.nearest, query_EQD, support_ESD, way_ES, num_ways)
            if not torch.is_grad_enabled() and is_large(query_EQD, support_ESD):
                return log_probs_in_chunks(self._score, query_EQD, Support(support_ESD, way_ES, num_ways),
                                           self.log_scale.exp())
            score_EQS = self._score(query_EQD, support_ESD, self.log_scale.exp())
        return attend(score_EQS, way_ES, num_ways)

    def own_way(self, query_EQD: Tensor, support_ESD: Tensor, way_ES: Tensor, query_way_EQ: Tensor, num_ways: int,
                chunk: int) -> tuple[Tensor, Tensor]:
        """Loss and correctness of each query, with scores for pairs of `chunk` queries and items at a time.

        Returns:
            -log P(own way) (E, Q), and whether that way is the most probable one (E, Q).
        """
        with torch.autocast(query_EQD.device.type, enabled=False):
            support = Support(at_least_float32(support_ESD), way_ES, num_ways)
            return own_way_in_chunks(self._score, at_least_float32(query_EQD), support, self.log_scale.exp(),
                                     query_way_EQ, chunk)

    def _score(self, query_EQD: Tensor, support_ESD: Tensor, scale: Tensor) -> Tensor:
        return similarity(self.kernel, query_EQD, support_ESD) * scale

    def _attend_to_nearest(self, count: int, query_EQD: Tensor, support_ESD: Tensor, way_ES: Tensor,
                           num_ways: int) -> Tensor:
        score_EQm, item_EQm = nearest_items(self._score, query_EQD, support_ESD, self.log_scale.exp(), count)
        way_EQm = way_ES.unsqueeze(1).expand(-1, item_EQm.shape[1], -1).gather(2, item_EQm)
        return log_sums_by_way(score_EQm.log_softmax(-1), way_EQm, num_ways)


def is_large(query_EQD: Tensor, support_ESD: Tensor) -> bool:
    """Whether the scores of all queries with all support items are too many to hold."""
    return query_EQD.shape[0] * query_EQD.shape[1] * support_ESD.shape[1] > MOST_SCORES


def similarity(kernel: Kernel, query_EQD: Tensor, support_ESD: Tensor) -> Tensor:
    """Similarity of every query with every support item, (E, Q, S); larger is nearer. Kernels as in AttentionSpec."""
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel is {kernel!r}; it is one of {', '.join(get_args(Kernel))}")
    if kernel == "euclidean":
        query_norm_EQ1 = query_EQD.square().sum(-1, keepdim=True)
        support_norm_E1S = support_ESD.square().sum(-1).unsqueeze(-2)
        return 2 * query_EQD @ support_ESD.mT - query_norm_EQ1 - support_norm_E1S
    if kernel in ("cosine", "projection"):
        support_ESD = F.normalize(support_ESD, dim=-1)
    if kernel == "cosine":
        query_EQD = F.normalize(query_EQD, dim=-1)
    return query_EQD @ support_ESD.mT


def attend(score_EQS: Tensor, way_ES: Tensor, num_ways: int) -> Tensor:
    """Log-probability of each way, by attention over the support set.

    P(y|x^, S) = sum_i a(x^, x_i) y_i,   a = softmax over i of the score      [Vinyals et al. 2016, eq. 1]

    Each way's sum is a logsumexp of its own scores, so a way far behind keeps a finite log-probability.

    Args:
        score_EQS: float similarities; -inf takes an item out (this is how kNN is a special case).
        way_ES: int64 in [0, num_ways); a way may have any number of items.
    Returns:
        log_probs_EQN: float32 (float64 of float64), nats; exp sums to 1 over N. A way without an item has -inf.
    Raises:
        ValueError: a way outside [0, num_ways); names it and its episode. On a GPU, where looking would wait for the
            encoder, torch's own assertion stands in for this.
    """
    outside_ES = (way_ES < 0) | (way_ES >= num_ways)
    if way_ES.device.type == "cpu" and outside_ES.any():
        episode, item = outside_ES.nonzero()[0].tolist()
        raise ValueError(f"way {way_ES[episode, item].item()} in episode {episode}; ways are 0 to {num_ways - 1}")
    log_attention_EQS = F.log_softmax(at_least_float32(score_EQS), dim=-1)
    return log_sums_by_way(log_attention_EQS, way_ES.unsqueeze(1).expand_as(log_attention_EQS), num_ways)
