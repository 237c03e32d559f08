"""Seconds for 10,000 test episodes on embeddings that are there already: what a column of Table 1 costs.

    python -m benchmarks.evaluation
"""

import time

import numpy as np
import torch

from benchmarks.table import print_table
from matchnet.context import FullContextSpec
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.evaluation import EpisodeStream, run_episodes
from matchnet.methods import MatchingNetwork
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.store import MemoryStore

NUM_EPISODES = 10_000
NUM_CLASSES, SAMPLES_PER_CLASS, EMBEDDING = 423, 20, 64


def seconds(method: MatchingNetwork, features: MemoryStore, stream: EpisodeStream) -> float:
    started = time.perf_counter()
    for _ in run_episodes(method, features, stream, range(NUM_EPISODES)):
        pass
    return time.perf_counter() - started


def main() -> None:
    classes = ClassRows.from_class_ids(np.repeat(np.arange(NUM_CLASSES), SAMPLES_PER_CLASS))
    features = MemoryStore(torch.randn(NUM_CLASSES * SAMPLES_PER_CLASS, 1, EMBEDDING))
    rows = []
    for name, fce in (("no context", None), ("FCE, K = 5", FullContextSpec(5))):
        method = MatchingNetwork(MatchingNetworkSpec(fce=fce), (1, 28, 28))
        rows += [[name, spec.column, seconds(method, features, EpisodeStream(classes, spec, seed=0))]
                 for spec in (EpisodeSpec(5, 1, 5), EpisodeSpec(5, 5, 5), EpisodeSpec(20, 1, 5), EpisodeSpec(20, 5, 5))]
    print_table(["model", "column", f"seconds for {NUM_EPISODES:,} episodes"], rows)


if __name__ == "__main__":
    main()
