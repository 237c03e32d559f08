"""The plan of which samples go into which shard: a pure function of the samples, the splits and the seed."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.formats.tar import BLOCK
from pipeline.data.raw.source import RawSample
from pipeline.data.splits import Split


@dataclass(frozen=True)
class ShardPlan:
    """One shard to write: its samples, all of one group, in order."""

    name: str
    group: str
    samples: tuple[RawSample, ...]

    @property
    def size(self) -> int:
        """Bytes of the shard's tar, as far as the samples' sizes are right."""
        return sum(_size_in_tar(sample) for sample in self.samples) + 2 * BLOCK


def group_classes(class_names: Iterable[str], splits: Mapping[str, Split]) -> dict[str, str]:
    """Class -> group, the class's part in each split, such as `lake_train+vinyals_test`.

    A shard holds one group, so each part of each split is a list of whole shards.
    """
    memberships: dict[str, list[str]] = {name: [] for name in class_names}
    for split_name in sorted(splits):
        for part, names in splits[split_name].items():
            for name in names:
                memberships[name].append(f"{split_name}_{part}")
    return {name: "+".join(parts) or "unused" for name, parts in memberships.items()}


def plan_shards(samples: Sequence[RawSample], group_of: Mapping[str, str], seed: int,
                shard_bytes: int) -> list[ShardPlan]:
    """Shards of at most `shard_bytes` by their samples' `size` (a larger one gets its own), shuffled in each group."""
    by_group: dict[str, list[RawSample]] = defaultdict(list)
    for sample in samples:
        by_group[group_of[sample.class_name]].append(sample)
    plans = (_plan_group(group, by_group[group], seed, shard_bytes) for group in sorted(by_group))
    return [plan for plans_of_group in plans for plan in plans_of_group]


def _plan_group(group: str, samples: list[RawSample], seed: int, shard_bytes: int) -> list[ShardPlan]:
    samples = sorted(samples)
    random = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(group.encode())]))
    shards: list[list[RawSample]] = [[]]
    filled = 0
    for position in random.permutation(len(samples)):
        sample = samples[position]
        needs = _size_in_tar(sample)
        if shards[-1] and filled + needs > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(sample)
        filled += needs
    return [ShardPlan(f"{group}-{number:06d}.tar", group, tuple(shard))
            for number, shard in enumerate(shards)]


def _size_in_tar(sample: RawSample) -> int:
    return BLOCK + -(-sample.size // BLOCK) * BLOCK
