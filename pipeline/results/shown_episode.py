"""Test episodes as they are shown beside the figures: which ones, and which of their queries.

Which episodes are shown does not depend on how the model did: the first ones. Episodes with errors follow, under a
heading that says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MOST_QUERIES = 6
MOST_PIXELS = 84  # pixels of a side, as in miniImageNet


@dataclass(frozen=True)
class ShownEpisode:
    """One episode, on the CPU: samples are uint8 images (C of 1 or 3, H, W) or tokens (L,); ways int64 in [0, N).

    log_probs_QN: natural logarithms.
    way_names: the class of each way.
    """

    support_S: Tensor
    support_way_S: Tensor
    query_Q: Tensor
    query_way_Q: Tensor
    log_probs_QN: Tensor
    way_names: Sequence[str]

    @property
    def wrong_Q(self) -> np.ndarray:
        """Mask of the queries that got another way than their own."""
        return (self.log_probs_QN.argmax(-1) != self.query_way_Q).numpy()


@dataclass(frozen=True)
class Choice:
    """Episodes under one heading, each with the positions of the queries to show."""

    heading: str
    episodes: Sequence[tuple[ShownEpisode, Sequence[int]]]


def choose(episodes: Sequence[ShownEpisode], num_first: int, num_with_errors: int = 3) -> list[Choice]:
    """The first episodes and, apart from them, the first others that hold an error.

    Args:
        episodes: the first test episodes in their order, all of one shape; a hundred, say.
    """
    first, others = episodes[:num_first], episodes[num_first:]
    failed = [episode for episode in others if episode.wrong_Q.any()]
    choices = [Choice(f"The first {len(first)} test episodes: a query of each way, {MOST_QUERIES} at most",
                      [(episode, _one_query_a_way(episode)) for episode in first])]
    if failed:
        shown = failed[:num_with_errors]
        choices.append(Choice(f"Chosen for their errors, wrong queries first: {len(shown)} of the {len(failed)} "
                              f"episodes with an error among the next {len(others)}",
                              [(episode, _wrong_first(episode)) for episode in shown]))
    return choices


def thumbnails(sample_B: Tensor) -> Tensor:
    """Images (B, C, H, W) no larger than they are shown, MOST_PIXELS a side; anything else as it is."""
    if sample_B.dtype != torch.uint8 or max(sample_B.shape[-2:]) <= MOST_PIXELS:
        return sample_B
    small = torch.nn.functional.interpolate(sample_B.float(), (MOST_PIXELS, MOST_PIXELS), mode="bilinear",
                                            antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)


def way_name(way: int) -> str:
    """A, B, ..., Z, then numbers."""
    return chr(ord("A") + way) if way < 26 else str(way)


def _one_query_a_way(episode: ShownEpisode) -> list[int]:
    ways = episode.query_way_Q.tolist()
    return [ways.index(way) for way in sorted(set(ways))][:MOST_QUERIES]


def _wrong_first(episode: ShownEpisode) -> list[int]:
    return np.argsort(~episode.wrong_Q, kind="stable")[:MOST_QUERIES].tolist()
