"""Episodes per second: sampling, and sampling + gathering their pixels from the in-memory store, on one core.

    python -m benchmarks.episodes

The limit is memory: a plain copy of as many bytes. The data is random, of Omniglot's size: 4,800 classes of 20 images.
"""

import itertools

import numpy as np
import torch

from benchmarks.table import calls_per_second, print_table
from matchnet.episodes import ClassRows, EpisodeSpec, sample_episodes
from matchnet.store import MemoryStore

EPISODES_PER_CALL = 32
NUM_CLASSES, SAMPLES_PER_CLASS = 4800, 20


def measure(spec: EpisodeSpec, store: MemoryStore, classes: ClassRows) -> list[object]:
    calls = itertools.count()

    def sample():
        first = next(calls) * EPISODES_PER_CALL
        return sample_episodes(0, range(first, first + EPISODES_PER_CALL), spec, classes)

    def sample_and_gather():
        episodes = sample()
        return store.gather(torch.cat([episodes.support_ES, episodes.query_EQ], dim=1))

    pixels = sample_and_gather()
    copy = torch.empty_like(pixels)
    calls_to_time = (sample, sample_and_gather, lambda: copy.copy_(pixels))
    speeds = [EPISODES_PER_CALL * calls_per_second(call) for call in calls_to_time]
    return [f"{spec.column}{spec.num_queries}q", *speeds, speeds[1] / speeds[2]]


def main() -> None:
    torch.set_num_threads(1)
    rows = NUM_CLASSES * SAMPLES_PER_CLASS
    store = MemoryStore(torch.randint(256, (rows, 1, 28, 28), dtype=torch.uint8))
    classes = ClassRows.from_class_ids(np.repeat(np.arange(NUM_CLASSES), SAMPLES_PER_CLASS))
    print_table(["episode", "sampled/s", "sampled + gathered/s", "copied/s (limit)", "share of limit"],
                [measure(spec, store, classes) for spec in (EpisodeSpec(5, 1, 15), EpisodeSpec(20, 1, 5))])


if __name__ == "__main__":
    main()
