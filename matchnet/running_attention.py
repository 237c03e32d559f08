"""Attention over a large support set: its scores are computed a chunk at a time, and never held all at once.

The softmax of equation 1 runs over the chunks  [Milakov and Gimelshein 2018, arXiv 1805.02867]; the backward pass
computes the scores again  [Dao et al. 2022, FlashAttention, arXiv 2205.14135]. So memory is what is given and returned,
and some numbers for each pair of a chunk of queries and a chunk of support items.

Shapes: E episodes, Q queries, S support items, N ways, D embedding; b queries and c support items of a chunk, m items.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Score = Callable[[Tensor, Tensor, Tensor], Tensor]  # (query_EQD, support_ESD, scale) -> score_EQS, differentiable
# Most scores of a batch of episodes without a gradient; more scores are computed in chunks. This many are 64 MB, and
# the attention holds six times as many numbers. The columns of the paper's tables stay below.
MOST_SCORES = 2**24
CHUNK = 2048  # support items, and queries, without a gradient
MOST_LOG_SUMS = 2**22  # numbers: the ways of every query in a chunk


@dataclass(frozen=True)
class Support:
    """The embedded support sets of E episodes.

    Args:
        embedding_ESD: float embeddings of the items.
        way_ES: int64 in [0, num_ways).
    """

    embedding_ESD: Tensor
    way_ES: Tensor
    num_ways: int

    def by_way(self) -> Iterator["SupportByWay"]:
        """Yield the support set of each episode, its items sorted by way."""
        for embedding_SD, way_S in zip(self.embedding_ESD, self.way_ES, strict=True):
            way_S, order_S = way_S.sort(stable=True)
            yield SupportByWay(embedding_SD[order_S], way_S, self.num_ways)


@dataclass(frozen=True)
class SupportByWay:
    """The support set of one episode. way_S ascends: a chunk of items has ways side by side."""

    embedding_SD: Tensor
    way_S: Tensor
    num_ways: int


def at_least_float32(value: Tensor) -> Tensor:
    """float32 from fewer bits, which are too coarse for exp; float64 stays."""
    return value if value.dtype == torch.float64 else value.float()


def log_sums_by_way(score_EQS: Tensor, way_EQS: Tensor, num_ways: int) -> Tensor:
    """log sum_i exp(score_i) over the items i of each way, (E, Q, N); -inf for a way without an item."""
    lowest = torch.finfo(score_EQS.dtype).min  # not -inf: the difference of two infinities is no number
    peak_EQN = score_EQS.new_full((*score_EQS.shape[:2], num_ways), lowest)
    peak_EQN = peak_EQN.scatter_reduce(2, way_EQS, score_EQS.detach(), "amax")
    weight_EQS = (score_EQS - peak_EQN.gather(2, way_EQS)).exp()
    sum_EQN = torch.zeros_like(peak_EQN).scatter_add(2, way_EQS, weight_EQS)
    nothing_EQN = sum_EQN == 0  # a way without an item: the gradient of log(0) would be NaN
    return (peak_EQN + sum_EQN.masked_fill(nothing_EQN, 1).log()).masked_fill(nothing_EQN, -torch.inf)


@torch.no_grad()
def log_probs_in_chunks(score: Score, query_EQD: Tensor, support: Support, scale: Tensor,
                        size: int = CHUNK) -> Tensor:
    """log_probs_EQN as `matchnet.attention.attend` gives them of all scores, to rounding; without a gradient."""
    log_probs_EQN = query_EQD.new_empty(*query_EQD.shape[:2], support.num_ways)
    for query_QD, one, log_probs_QN in zip(query_EQD, support.by_way(), log_probs_EQN, strict=True):
        for chunk, log_sum_bN in _log_sums(score, query_QD, one, scale, size):
            log_probs_QN[chunk] = log_sum_bN - log_sum_bN.logsumexp(-1, keepdim=True)
    return log_probs_EQN


def own_way_in_chunks(score: Score, query_EQD: Tensor, support: Support, scale: Tensor, query_way_EQ: Tensor,
                      size: int) -> tuple[Tensor, Tensor]:
    """(-log P of each query's own way (E, Q), whether it is the most probable one (E, Q)), from chunks of `size`."""
    losses, rights = [], []
    for query_QD, one, query_way_Q in zip(query_EQD, support.by_way(), query_way_EQ, strict=True):
        loss_Q, right_Q = _OwnWay.apply(score, one.num_ways, size, query_QD, one.embedding_SD, scale, one.way_S,
                                        query_way_Q)
        losses.append(loss_Q)
        rights.append(right_Q)
    return torch.stack(losses), torch.stack(rights)


def nearest_items(score: Score, query_EQD: Tensor, support_ESD: Tensor, scale: Tensor,
                  count: int) -> tuple[Tensor, Tensor]:
    """(score_EQm, position_EQm) of each query's `count` support items of highest score, or of all where S is less."""
    E, Q = query_EQD.shape[:2]
    best_EQm = query_EQD.new_empty(E, Q, 0)
    position_EQm = best_EQm.long()
    first = 0
    for support_EcD in support_ESD.split(max(count, MOST_SCORES // 4 // (E * Q)), dim=1):
        score_EQc = score(query_EQD, support_EcD, scale)
        found_EQm, chosen_EQm = score_EQc.topk(min(count, score_EQc.shape[2]), dim=2)
        both_EQm = torch.cat([best_EQm, found_EQm], dim=2)
        best_EQm, kept_EQm = both_EQm.topk(min(count, both_EQm.shape[2]), dim=2)
        position_EQm = torch.cat([position_EQm, chosen_EQm + first], dim=2).gather(2, kept_EQm)
        first += support_EcD.shape[1]
    return best_EQm, position_EQm


def read_in_chunks(h_EQD: Tensor, support_ESD: Tensor) -> Tensor:
    """softmax(h g^T) g, (E, Q, D), by torch's own kernel, which holds no scores either."""
    support_E1SD = support_ESD.unsqueeze(1)
    return F.scaled_dot_product_attention(h_EQD.unsqueeze(1), support_E1SD, support_E1SD, scale=1.0).squeeze(1)


def _log_sums(score: Score, query_QD: Tensor, support: SupportByWay, scale: Tensor,
              size: int) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of queries with their log-sums by way, (b, N)."""
    support_SD, way_S, num_ways = support.embedding_SD, support.way_S, support.num_ways
    firsts, lasts = (torch.stack([ways[end] for ways in way_S.split(size)]).tolist() for end in (0, -1))
    for chunk in _slices(len(query_QD), min(size, max(1, MOST_LOG_SUMS // num_ways))):
        query_1bD = query_QD[None, chunk]
        log_sum_bN = query_1bD.new_full((query_1bD.shape[1], num_ways), -torch.inf)
        for items, first, last in zip(_slices(len(support_SD), size), firsts, lasts, strict=True):
            score_1bc, ways = score(query_1bD, support_SD[None, items], scale), slice(first, last + 1)
            way_1bc = (way_S[items] - first).expand_as(score_1bc)
            log_sum_1bn = log_sums_by_way(score_1bc, way_1bc, last - first + 1)
            log_sum_bN[:, ways] = torch.logaddexp(log_sum_bN[:, ways], log_sum_1bn[0])
        yield chunk, log_sum_bN


class _OwnWay(torch.autograd.Function):
    """loss_Q and right_Q of one episode; the gradient is that of loss_Q."""

    @staticmethod
    def forward(ctx: Any, score: Score, num_ways: int, size: int, query_QD: Tensor, support_SD: Tensor, scale: Tensor,
                way_S: Tensor, query_way_Q: Tensor) -> tuple[Tensor, Tensor]:
        all_Q, own_Q = query_QD.new_empty(len(query_QD)), query_QD.new_empty(len(query_QD))
        right_Q = torch.zeros_like(query_way_Q, dtype=torch.bool)
        for chunk, log_sum_bN in _log_sums(score, query_QD, SupportByWay(support_SD, way_S, num_ways), scale, size):
            all_Q[chunk] = log_sum_bN.logsumexp(-1)
            own_Q[chunk] = log_sum_bN.gather(1, query_way_Q[chunk, None]).squeeze(1)
            right_Q[chunk] = log_sum_bN.argmax(-1) == query_way_Q[chunk]
        ctx.score, ctx.size = score, size
        ctx.save_for_backward(query_QD, support_SD, scale, way_S, query_way_Q, all_Q, own_Q)
        ctx.mark_non_differentiable(right_Q)
        return all_Q - own_Q, right_Q

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_QD, support_SD, scale, way_S, query_way_Q, all_Q, own_Q = ctx.saved_tensors
        of_query_QD, of_support_SD, of_scale = (torch.zeros_like(value) for value in (query_QD, support_SD, scale))
        for queries in _slices(len(query_QD), ctx.size):
            for items in _slices(len(support_SD), ctx.size):
                with torch.enable_grad():
                    given = [value.detach().requires_grad_() for value in (query_QD[queries], support_SD[items], scale)]
                    score_bc = ctx.score(given[0][None], given[1][None], given[2])[0]
                # d loss / d score_i: the item's weight among all, less its weight among the query's own way
                weight_bc = (score_bc.detach() - all_Q[queries, None]).exp()
                own_bc = way_S[items] == query_way_Q[queries, None]
                weight_bc -= (score_bc.detach() - own_Q[queries, None]).exp().where(own_bc, 0)
                of_bD, of_cD, of_this = torch.autograd.grad(score_bc, given, weight_bc * gradients[0][queries, None])
                of_query_QD[queries] += of_bD
                of_support_SD[items] += of_cD
                of_scale += of_this
        return None, None, None, of_query_QD, of_support_SD, of_scale, None, None


def _slices(count: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]
