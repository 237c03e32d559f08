"""A problem that every method must solve, and one that none can. Used by the tests of the baselines."""

import numpy as np
import torch
from torch import Tensor

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.evaluation import EpisodeStream, evaluate
from matchnet.methods import Method
from matchnet.statistics import mean_and_interval
from matchnet.store import MemoryStore
from matchnet.training import train

SHAPE = (1, 8, 8)
SMALL = Conv4Spec(num_filters=16, num_blocks=2)
TRAIN_CLASSES, TEST_CLASSES, SAMPLES = range(40), range(40, 60), 20
CLASS_R = np.repeat(np.arange(60), SAMPLES)


def patterns(noise: float) -> MemoryStore:
    """60 classes: each a random pattern of 4 x 4 squares, its samples under uniform noise of that share."""
    generator = torch.Generator().manual_seed(0)
    pattern_RCHW = (torch.rand(60, 1, 4, 4, generator=generator) > 0.5).float().repeat_interleave(SAMPLES, 0)
    large_RCHW = pattern_RCHW.repeat_interleave(2, 2).repeat_interleave(2, 3)
    noise_RCHW = torch.rand(large_RCHW.shape, generator=generator)
    return MemoryStore(((large_RCHW * (1 - noise) + noise_RCHW * noise) * 255).to(torch.uint8))


EASY, CHANCE = patterns(0.5), patterns(1.0)  # in CHANCE, samples know nothing of their class


def train_on(store: MemoryStore, method: Method, episode: EpisodeSpec, steps: int, episodes_per_step: int = 1,
             learning_rate: float = 3e-3) -> Method:
    data = EpisodicData(store, ClassRows.from_class_ids(CLASS_R, TRAIN_CLASSES))
    spec = EpisodicSpec(episode=episode, steps=steps, episodes_per_step=episodes_per_step, learning_rate=learning_rate,
                        gradient_clip=10.0)
    train(method, EpisodicTask(data, spec))
    return method.eval()


def accuracy_on_test_classes(
        method: Method, store: MemoryStore, spec: EpisodeSpec, episodes: int = 400) -> tuple[float, float]:
    """Mean over episodes of classes that training never saw, and its 95% interval."""
    classes = ClassRows.from_class_ids(CLASS_R, TEST_CLASSES)
    return mean_and_interval(evaluate(method, store, EpisodeStream(classes, spec, seed=1), episodes))


def random_episodes(E: int, N: int, k: int, Q: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Support (E, N k, *SHAPE), its ways in random order, queries (E, Q, *SHAPE)."""
    generator = torch.Generator().manual_seed(seed)
    way_ES = torch.stack([torch.randperm(N * k, generator=generator) % N for _ in range(E)])
    support_ES = torch.rand(E, N * k, *SHAPE, generator=generator)
    return support_ES, way_ES, torch.rand(E, Q, *SHAPE, generator=generator)


def log_probs(method: Method, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
    E = len(support_ES)
    support, query = (method.embed(image_ET.flatten(0, 1)).unflatten(0, (E, -1))
                      for image_ET in (support_ES, query_EQ))
    return method.classify(support, way_ES, query, num_ways)
