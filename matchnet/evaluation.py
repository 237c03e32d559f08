"""Evaluation: embed every sample once, then run any number of episodes on the embeddings.

Shapes: R rows of a store, E episodes, Q queries, N ways.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from matchnet.episodes import ClassRows, Episodes, EpisodeSpec, sample_episodes
from matchnet.methods.base import Method, accuracy
from matchnet.store import MemoryStore, Store

EMBED_BATCH = 256  # samples; Conv-4's largest activation is then 51 MB, near a CPU's last cache
FEATURES_PER_BATCH = 2**23  # numbers gathered for one batch of episodes: 32 MB


def evaluate(method: Method, store: Store, classes: ClassRows, spec: EpisodeSpec, num_episodes: int, *,
             seed: int, device: torch.device | str = "cpu") -> np.ndarray:
    """accuracy_E of `method` on episodes 0 .. num_episodes - 1 of the stream (seed, spec): embed, then run.

    Raises:
        ValueError: the classes cannot serve the spec.
        FloatingPointError: the method gives no number somewhere; names the episode.
    """
    classes.check(spec)
    return episode_accuracies(method, embed_all(method, store, classes, device), classes, spec, num_episodes, seed)


@torch.inference_mode()
def embed_all(method: Method, store: Store, classes: ClassRows, device: torch.device | str) -> MemoryStore:
    """Features of the rows of `classes`, at their rows of the store; other rows hold zeros."""
    method.eval()
    rows = torch.from_numpy(np.sort(np.concatenate(
        [classes.rows[start:start + count] for start, count in zip(classes.starts, classes.counts, strict=True)])))
    features = None
    for chunk in rows.split(EMBED_BATCH):
        feature_B = method.embed(to_input(store.gather(chunk).to(device)))
        if features is None:
            features = torch.zeros(len(store), *feature_B.shape[1:], device=device)
        features[chunk.to(device)] = feature_B.float()
    assert features is not None
    return MemoryStore(features)


@torch.inference_mode()
def run_episodes(method: Method, features: MemoryStore, classes: ClassRows, spec: EpisodeSpec, num_episodes: int,
                 seed: int) -> Iterator[tuple[Episodes, Tensor]]:
    """Episodes 0 .. num_episodes - 1 in batches, each with its log_probs_EQN."""
    method.eval()
    device = features.samples.device
    numbers_per_episode = spec.num_ways * spec.samples_per_way * features.samples[0].numel()
    batch_size = max(1, FEATURES_PER_BATCH // numbers_per_episode)
    for first in range(0, num_episodes, batch_size):
        episodes = sample_episodes(seed, range(first, min(first + batch_size, num_episodes)), spec, classes)
        yield episodes, method.classify(features.gather(episodes.support_ES), episodes.support_way_ES.to(device),
                                        features.gather(episodes.query_EQ), spec.num_ways)


def episode_accuracies(method: Method, features: MemoryStore, classes: ClassRows, spec: EpisodeSpec, num_episodes: int,
                       seed: int) -> np.ndarray:
    """accuracy_E: share of right queries of each episode, float64 in [0, 1]; raises as evaluate does."""
    accuracies: list[np.ndarray] = []
    for episodes, log_probs_EQN in run_episodes(method, features, classes, spec, num_episodes, seed):
        no_number_E = log_probs_EQN.isnan().flatten(1).any(1)
        if no_number_E.any():
            episode = sum(len(batch) for batch in accuracies) + int(no_number_E.nonzero()[0])
            raise FloatingPointError(f"episode {episode}: {type(method).__name__} gives NaN; are its weights finite?")
        accuracies.append(accuracy(log_probs_EQN, episodes.query_way_EQ.to(log_probs_EQN.device)).cpu().numpy())
    return np.concatenate(accuracies)


def to_input(samples: Tensor) -> Tensor:
    """uint8 pixels -> float in [0, 1]; anything else (tokens, features) is left as it is."""
    return samples.float() / 255 if samples.dtype == torch.uint8 else samples
