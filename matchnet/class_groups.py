"""Groups of classes of one kind, such as the breeds below a node of WordNet: episodes may be drawn within one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class ClassGroups:
    """Group g has the classes at positions members[starts[g] : starts[g] + counts[g]] of a ClassRows.

    Groups may overlap, no two are equal, and a class may be in none.
    """

    members: np.ndarray  # (M,) int64
    starts: np.ndarray  # (G,) int64
    counts: np.ndarray  # (G,) int64

    @staticmethod
    def from_lists(groups: Iterable[Iterable[int]]) -> "ClassGroups":
        """Groups from lists of positions, in any order. Equal groups count once, and empty groups are left out."""
        distinct = list(dict.fromkeys(tuple(sorted(set(group))) for group in groups))
        listed = [group for group in distinct if group]
        counts = np.array([len(group) for group in listed], dtype=np.int64)
        members = np.array([position for group in listed for position in group], dtype=np.int64)
        return ClassGroups(members, counts.cumsum() - counts, counts)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The positions of each group's classes."""
        return (self.members[start:start + count] for start, count in zip(self.starts, self.counts, strict=True))

    def of_size(self, smallest: int, largest: int) -> "ClassGroups":
        """The groups with at least `smallest` and at most `largest` classes."""
        fits = (self.counts >= smallest) & (self.counts <= largest)
        return replace(self, starts=self.starts[fits], counts=self.counts[fits])

    def among(self, kept_C: np.ndarray) -> "ClassGroups":
        """The groups cut to the classes that are kept, at their new positions."""
        position_C = kept_C.cumsum() - 1
        return ClassGroups.from_lists(position_C[group[kept_C[group]]].tolist() for group in self)

    def probabilities(self) -> np.ndarray:
        """The probability of drawing each group: a class of any group is drawn uniformly, then one of its groups.

        If all groups were equally likely, classes in small groups or in many groups would be drawn far too often.
        Example: ILSVRC2012 without L_dogs has 882 classes, and 559 of them are in the 95 groups of 5 to 20. With
        equally likely groups, the most frequent class would be drawn 10.4 times as often as the least; here it is 5.3
        times. A query would be as spread as over 442 equal classes; here it is as spread as over 532 (1 / sum of
        squared probabilities).
        """
        group_M = np.repeat(np.arange(len(self)), self.counts)
        place_M = np.arange(len(group_M)) - (self.counts.cumsum() - self.counts)[group_M]  # position in its group
        member_M = self.members[self.starts[group_M] + place_M]
        num_groups_C = np.bincount(member_M)
        weight_G = np.bincount(group_M, weights=1 / num_groups_C[member_M])
        return weight_G / (num_groups_C > 0).sum()
