"""Evaluation: embed every sample that occurs once, then run any number of episodes on the embeddings.

Both work in batches. The last bits of a result depend on the rest of its batch. So divide the work among processes
only between batches: by multiples of `embed_batch_size` rows, and of `episode_batch_size` episodes.

Shapes: R rows of a store, U rows that occur, E episodes, Q queries, N ways, B samples.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matchnet.devices import to_input
from matchnet.episodes import ClassRows, Episodes, EpisodeSpec, sample_episodes
from matchnet.methods.base import Method, accuracy
from matchnet.running_attention import MOST_SCORES
from matchnet.store import MemoryStore, SomeRows, Store

EMBED_BATCH = 256  # samples, on a GPU and at most
# On a CPU a batch has this many numbers, which is 256 images of 28 x 28: Conv-4's largest activation is then 51 MB,
# near the last cache's size. A batch has at least 8 samples, for the processes of a store on shards to share.
EMBED_NUMBERS, EMBED_AT_LEAST = 200_704, 8
FEATURES_PER_BATCH = 2**23  # numbers gathered for one batch of episodes: 32 MB
EPISODES_AT_ONCE = 1024  # when only their rows are looked at

Advance = Callable[[int], object]  # told how many more samples or episodes are done


def no_progress(count: int) -> None:
    """An Advance for those who do not watch."""


@dataclass(frozen=True)
class EpisodeStream:
    """Episodes number 0, 1, 2, ... of these classes: what a model is tested on."""

    classes: ClassRows
    spec: EpisodeSpec
    seed: int

    def episodes(self, numbers: range) -> Episodes:
        return sample_episodes(self.seed, numbers, self.spec, self.classes)


@dataclass(frozen=True)
class EpisodeResults:
    """Results that are kept of each episode.

    Attributes:
        accuracy_E: share of right queries, float64 in [0, 1].
        most_one_way_E: the largest share of the queries that were given the same way, float64. Ways have as many
            queries each, so it is 1 / N at best. It is 1 if all queries are given one way.
    """

    accuracy_E: np.ndarray
    most_one_way_E: np.ndarray


def evaluate(method: Method, store: Store, stream: EpisodeStream, num_episodes: int, *,
             device: torch.device | str = "cpu") -> np.ndarray:
    """accuracy_E of `method` on episodes 0 .. num_episodes - 1 of the stream: embed, then run.

    Raises:
        ValueError: the classes cannot serve the spec.
        FloatingPointError: the method gives no number somewhere; names the episode.
    """
    features = embed_rows(method, store, rows_drawn(stream, num_episodes), device)
    return episode_results(method, features, stream, range(num_episodes)).accuracy_E


def rows_drawn(stream: EpisodeStream, num_episodes: int) -> np.ndarray:
    """The rows that episodes 0 .. num_episodes - 1 use, ascending: in a large part, only a fraction of all rows."""
    is_drawn_R = np.zeros(int(stream.classes.rows.max()) + 1, dtype=bool)
    for first in range(0, num_episodes, EPISODES_AT_ONCE):
        episodes = stream.episodes(range(first, min(first + EPISODES_AT_ONCE, num_episodes)))
        is_drawn_R[episodes.support_ES.numpy()] = is_drawn_R[episodes.query_EQ.numpy()] = True
    return np.flatnonzero(is_drawn_R)


@torch.inference_mode()
def embed_rows(method: Method, store: Store, row_U: np.ndarray, device: torch.device | str,
               advance: Advance = no_progress) -> SomeRows:
    """Features of some rows of a store, each once; only features are kept. The next batch is read meanwhile."""
    method.eval()
    rows = torch.from_numpy(row_U)
    chunks = rows.split(embed_batch_size(store, device))
    feature_U, first = torch.empty(0), 0
    for sample_B in store.gather_each(chunks):
        feature_B = method.embed(to_input(sample_B, device))
        if first == 0:
            feature_U = torch.empty(len(rows), *feature_B.shape[1:], device=device)
        feature_U[first:first + len(feature_B)] = feature_B
        first += len(feature_B)
        advance(len(feature_B))
    return SomeRows(feature_U, rows, len(store))


def embed_batch_size(store: Store, device: torch.device | str) -> int:
    """Number of samples in a batch of `embed_rows`; the last batch may be smaller."""
    if torch.device(device).type != "cpu":
        return EMBED_BATCH
    return min(EMBED_BATCH, max(EMBED_AT_LEAST, EMBED_NUMBERS // math.prod(store.sample_shape)))


@torch.inference_mode()
def run_episodes(method: Method, features: MemoryStore, stream: EpisodeStream,
                 numbers: range) -> Iterator[tuple[Episodes, Tensor]]:
    """Yield the episodes of these numbers in batches, each with its log_probs_EQN."""
    method.eval()
    batch_size = episode_batch_size(features, stream.spec)
    for begin in range(0, len(numbers), batch_size):
        episodes = stream.episodes(numbers[begin:begin + batch_size])
        yield episodes, method.classify_rows(features, episodes)


def episode_batch_size(features: MemoryStore, spec: EpisodeSpec) -> int:
    """Number of episodes in a batch of `run_episodes`; the last batch may be smaller."""
    numbers = spec.num_ways * spec.samples_per_way * features.samples[0].numel()
    scores = spec.num_ways**2 * spec.num_shots * spec.num_queries
    return max(1, min(FEATURES_PER_BATCH // numbers, MOST_SCORES // max(1, scores)))


def episode_results(method: Method, features: MemoryStore, stream: EpisodeStream, numbers: range,
                    advance: Advance = no_progress) -> EpisodeResults:
    """Run the episodes of these numbers and collect their results; raises as evaluate does."""
    accuracies, shares, done = [], [], numbers.start
    for episodes, log_probs_EQN in run_episodes(method, features, stream, numbers):
        no_number_E = log_probs_EQN.isnan().flatten(1).any(1)
        if no_number_E.any():
            raise FloatingPointError(f"episode {done + int(no_number_E.nonzero()[0])}: {type(method).__name__} gives "
                                     "NaN; are its weights finite?")
        accuracies.append(accuracy(log_probs_EQN, episodes.query_way_EQ.to(log_probs_EQN.device)).cpu().numpy())
        shares.append(most_one_way(log_probs_EQN).cpu().numpy())
        done += len(episodes)
        advance(len(episodes))
    return EpisodeResults(np.concatenate(accuracies), np.concatenate(shares))


def most_one_way(log_probs_EQN: Tensor) -> Tensor:
    """The largest share of an episode's queries that were given the same way, (E,) float64."""
    way_EQ = log_probs_EQN.argmax(-1)
    count_EN = torch.zeros(len(way_EQ), log_probs_EQN.shape[-1], dtype=torch.float64, device=way_EQ.device)
    return count_EN.scatter_add_(1, way_EQ, torch.ones_like(way_EQ, dtype=torch.float64)).amax(-1) / way_EQ.shape[1]
