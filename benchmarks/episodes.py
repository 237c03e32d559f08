"""Episodes per second: sampling, and sampling + gathering their pixels from the in-memory store, on one core.

    python -m benchmarks.episodes

The limit is memory: a plain copy of as many bytes. The data is random, of Omniglot's size: 4,800 classes of 20 images.
Fine-grained episodes are of 480 groups, two that hold one another for every 20 classes.
"""

import itertools

import numpy as np
import torch
from torch import Tensor

from benchmarks.table import calls_per_second, print_table
from matchnet.class_groups import ClassGroups
from matchnet.episodes import ClassRows, Episodes, EpisodeSpec, FineGrainedSpec, sample_episodes
from matchnet.store import MemoryStore

EPISODES_PER_CALL = 32
NUM_CLASSES, SAMPLES_PER_CLASS = 4800, 20
SPECS = (EpisodeSpec(5, 1, 15), EpisodeSpec(5, 1, 15, FineGrainedSpec(share=0.5)), EpisodeSpec(20, 1, 5))


def measure(spec: EpisodeSpec, store: MemoryStore, classes: ClassRows) -> list[object]:
    calls = itertools.count()

    def sample() -> Episodes:
        first = next(calls) * EPISODES_PER_CALL
        return sample_episodes(0, range(first, first + EPISODES_PER_CALL), spec, classes)

    def sample_and_gather() -> Tensor:
        episodes = sample()
        return store.gather(episodes.row_ET)

    pixels = sample_and_gather()
    copy = torch.empty_like(pixels)
    calls_to_time = (sample, sample_and_gather, lambda: copy.copy_(pixels))
    speeds = [EPISODES_PER_CALL * calls_per_second(call) for call in calls_to_time]
    return [f"{spec.column}{spec.num_queries}q", *speeds, speeds[1] / speeds[2]]


def main() -> None:
    torch.set_num_threads(1)
    rows = NUM_CLASSES * SAMPLES_PER_CLASS
    store = MemoryStore(torch.randint(256, (rows, 1, 28, 28), dtype=torch.uint8))
    starts = range(0, NUM_CLASSES, 20)
    groups = ClassGroups.from_lists(range(start, start + size) for start in starts for size in (20, 8))
    classes = ClassRows.from_class_ids(np.repeat(np.arange(NUM_CLASSES), SAMPLES_PER_CLASS)).with_groups(groups)
    print_table(["episode", "sampled/s", "sampled + gathered/s", "copied/s (limit)", "share of limit"],
                [measure(spec, store, classes) for spec in SPECS])


if __name__ == "__main__":
    main()
