"""Episodes: which samples are support and which are query  [Vinyals et al. 2016, section 2.2].

An episode is a pure function of (seed, episode number, EpisodeSpec): its random words come from a counter-based
generator (Philox), and the episode's number decides the counter. There is no state: any worker makes any episode, a
resumed run needs only the number, and all models are compared on the same episodes.

Rows may come from a common origin (words of one sentence). If an episode would use an origin twice, it is drawn again
at further counters. So all episodes that use no origin twice are equally likely.

Classes are drawn uniformly, or, in a share of the episodes, from one group of classes that are alike. The paper
proposes such groups for future work [section 4.1.2]: it "samples S from fine grained sets of labels instead of
sampling uniformly from the leafs of the ImageNet class tree".

Shapes: E episodes, N ways, S = N * num_shots support items, Q = N * num_queries queries, R rows of a store.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from matchnet.class_groups import ClassGroups
from matchnet.random_words import random_words, to_uniform

# Measured on the Penn Treebank's 41,044 training sentences: 64 ways of 8 rows take 40 draws on average, and at most 365
# in 4,000 episodes. 256 ways of 2 rows take 49, and at most 569 in 1,500. At 49, one in 10^9 takes more than 1,000.
MOST_DRAWS = 1000
ALL_WAYS = 0  # value of num_ways that stands for all classes
FIRST_DRAWS, LARGEST_DRAWS = 4, 64  # draws at once, because a call of numpy costs more than one draw


@dataclass(frozen=True)
class FineGrainedSpec:
    """Some episodes take all their classes from one group of classes that are alike; the others draw them uniformly.

    ClassGroups.probabilities says which group is drawn.

    Args:
        share: share of the episodes that do so.
        largest_group: classes of a group, at most. A group has at least as many as the episode has ways.
    """

    share: float = 1.0
    largest_group: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be above 0 and at most 1; for uniform episodes alone "
                             "leave fine_grained out")


@dataclass(frozen=True)
class EpisodeSpec:
    """N-way k-shot.

    Args:
        num_ways: N, classes of an episode. ALL_WAYS stands for the number of classes until it is known; see `among`.
        num_shots: k, support samples of each class.
        num_queries: queries of each class.
        fine_grained: draws the classes of some episodes from one group of classes that are alike. Null draws all
            classes uniformly.
    """

    num_ways: int
    num_shots: int
    num_queries: int
    fine_grained: FineGrainedSpec | None = None

    def __post_init__(self) -> None:
        for field, least in (("num_ways", 2), ("num_shots", 0), ("num_queries", 1)):
            value = getattr(self, field)
            if value < least and (field, value) != ("num_ways", ALL_WAYS):
                raise ValueError(f"{field} is {value}; it must be at least {least}")
        if self.fine_grained is not None and self.fine_grained.largest_group < self.num_ways:
            raise ValueError(f"fine_grained.largest_group is {self.fine_grained.largest_group}; a group must have as "
                             f"many classes as an episode has ways, {self.num_ways}, or more")

    @property
    def column(self) -> str:
        """The name of this task in tables: 5w1s is 5-way 1-shot, fine-5w1s the same within groups of classes."""
        ways = "all-" if self.num_ways == ALL_WAYS else f"{self.num_ways}w"
        return ("fine-" if self.fine_grained else "") + f"{ways}{self.num_shots}s"

    def among(self, num_classes: int) -> "EpisodeSpec":
        """The same spec, with `num_classes` ways if it asks for all classes; episodes are those of that many ways."""
        return replace(self, num_ways=num_classes) if self.num_ways == ALL_WAYS else self

    @property
    def stream(self) -> int:
        """Specs differ in their stream, so 5w1s and 20w1s of one seed share no randomness.

        Specs that differ only in their `fine_grained` settings have one stream: with a larger share, more of the same
        episodes are fine-grained.
        """
        task = self.num_ways << 40 | self.num_shots << 20 | self.num_queries
        return task | (self.fine_grained is not None) << 63

    @property
    def samples_per_way(self) -> int:
        return self.num_shots + self.num_queries


@dataclass(frozen=True)
class ClassRows:
    """Rows of a store grouped by class: those of class c are rows[starts[c] : starts[c] + counts[c]].

    Attributes:
        rows: int64 (R,), grouped by class.
        starts: int64 (C,), where each class begins in `rows`.
        counts: int64 (C,), how many rows each class has.
        origin_R: the origin of each row of the store, such as its sentence. Rows of one origin never meet in an
            episode. None if every row has its own.
        groups: groups of the classes, by their positions 0 .. C - 1, for fine-grained episodes. None if there are none.
    """

    rows: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    origin_R: np.ndarray | None = None
    groups: ClassGroups | None = None

    @staticmethod
    def from_class_ids(class_id_R: np.ndarray, classes: Sequence[int] | None = None,
                       origin_R: np.ndarray | None = None) -> "ClassRows":
        """Group rows by class.

        Args:
            class_id_R: the class of each row of the store.
            classes: the class_ids to keep, in this order. None keeps every class_id that occurs, ascending.
            origin_R: see ClassRows.
        Raises:
            ValueError: a class without a row, or listed twice; names it.
        """
        class_id_R = np.asarray(class_id_R, dtype=np.int64)
        order = np.argsort(class_id_R, kind="stable")
        present, starts, counts = np.unique(class_id_R[order], return_index=True, return_counts=True)
        wanted = present if classes is None else np.asarray(classes, dtype=np.int64)
        missing = wanted[~np.isin(wanted, present)]
        if len(missing):
            raise ValueError(f"class_id {missing[0]} has no row in the store; {len(present)} classes have")
        listed, times = np.unique(wanted, return_counts=True)
        if (times > 1).any():
            raise ValueError(f"class_id {listed[times > 1][0]} is listed twice: it would be two ways of one episode")
        position = np.searchsorted(present, wanted)
        return ClassRows(order, starts[position], counts[position], origin_R)

    @property
    def num_classes(self) -> int:
        return len(self.starts)

    def with_at_least(self, count: int) -> "ClassRows":
        """The classes with at least `count` rows, in the same order."""
        enough = self.counts >= count
        groups = None if self.groups is None else self.groups.among(enough)
        return replace(self, starts=self.starts[enough], counts=self.counts[enough], groups=groups)

    def with_groups(self, groups: ClassGroups) -> "ClassRows":
        """The same classes; ValueError for a group of other positions than theirs."""
        if len(groups.members) and not 0 <= groups.members.min() <= groups.members.max() < self.num_classes:
            raise ValueError(f"groups have classes at positions {groups.members.min()} to {groups.members.max()}, and "
                             f"there are {self.num_classes} classes; make them of the same classes")
        return replace(self, groups=groups)

    def groups_for(self, spec: EpisodeSpec) -> ClassGroups:
        """The groups that a fine-grained episode may be drawn from; ValueError if there is none."""
        assert spec.fine_grained is not None
        if self.groups is None:
            raise ValueError("fine_grained: these classes have no groups, such as WordNet makes of ImageNet's; leave "
                             "fine_grained out")
        largest = spec.fine_grained.largest_group
        groups = self.groups.of_size(spec.num_ways, largest)
        if not len(groups):
            raise ValueError(f"fine_grained: none of the {len(self.groups)} groups of {self.num_classes} classes has "
                             f"{spec.num_ways} (num_ways) to {largest} (largest_group) of them; lower num_ways or "
                             "raise largest_group")
        return groups

    def num_drawn(self, spec: EpisodeSpec) -> int:
        """Number of classes that these episodes draw from: all, or those in groups if all episodes take a group."""
        if spec.fine_grained is None or spec.fine_grained.share < 1:
            return self.num_classes
        return len(np.unique(np.concatenate(list(self.groups_for(spec)))))

    def check(self, spec: EpisodeSpec) -> None:
        """Refuse a spec that these classes cannot serve: ValueError with both numbers and the remedy."""
        if spec.num_ways == ALL_WAYS:
            raise ValueError(f"num_ways is {ALL_WAYS}, all classes, and there are {self.num_classes}; write how many")
        if spec.num_ways > self.num_classes:
            raise ValueError(f"{spec.num_ways} ways of {self.num_classes} classes; lower num_ways or use a larger part")
        fewest = int(self.counts.argmin())
        if spec.samples_per_way > self.counts[fewest]:
            raise ValueError(
                f"class at position {fewest} has {self.counts[fewest]} samples; {spec.num_shots} shots + "
                f"{spec.num_queries} queries need {spec.samples_per_way}; lower one of them or leave the class out")
        if spec.fine_grained is not None:
            self.groups_for(spec)


@dataclass(frozen=True)
class Episodes:
    """E episodes of one spec; all int64. Rows are a store's; a way is a label in [0, N) inside one episode."""

    class_EN: Tensor  # position of each way's class in the ClassRows
    support_ES: Tensor  # rows; their order is a sequence drawn with the episode (FCE reads it as one)
    support_way_ES: Tensor
    query_EQ: Tensor  # rows, way by way
    query_way_EQ: Tensor

    def __len__(self) -> int:
        return len(self.class_EN)

    def __getitem__(self, some: slice) -> "Episodes":
        return Episodes(self.class_EN[some], self.support_ES[some], self.support_way_ES[some], self.query_EQ[some],
                        self.query_way_EQ[some])

    @property
    def num_ways(self) -> int:
        return self.class_EN.shape[1]

    @property
    def row_ET(self) -> Tensor:
        """All rows of each episode, T = S + Q: its support, then its queries."""
        return torch.cat([self.support_ES, self.query_EQ], dim=1)


def sample_episodes(seed: int, numbers: Sequence[int], spec: EpisodeSpec, classes: ClassRows) -> Episodes:
    """Episodes `numbers` of the stream (seed, spec): classes, then samples, uniformly and without replacement.

    In a fine-grained episode, ClassGroups.probabilities decides the group, and the classes are drawn from it.

    Raises:
        ValueError: the classes cannot serve the spec (too few classes, too few samples in one, too few origins, no
            group).
    """
    classes.check(spec)
    number_E = np.asarray(numbers, dtype=np.int64)
    class_EN, row_ENm, order_ES = _draw(seed, number_E, spec, classes, range(1))
    redrawn = np.flatnonzero(_origins_meet(row_ENm, classes))
    begin, at_once = 1, FIRST_DRAWS
    while len(redrawn) and begin < MOST_DRAWS:
        draws = range(begin, min(begin + at_once, MOST_DRAWS))
        drawn = _draw(seed, number_E[redrawn], spec, classes, draws)
        free_DE = ~_origins_meet(drawn[1], classes).reshape(len(draws), -1)
        found = free_DE.any(axis=0)
        first = free_DE.argmax(axis=0)[found] * len(redrawn) + np.flatnonzero(found)
        for kept, new in zip((class_EN, row_ENm, order_ES), drawn, strict=True):
            kept[redrawn[found]] = new[first]
        redrawn, begin, at_once = redrawn[~found], draws.stop, min(2 * at_once, LARGEST_DRAWS)
    if len(redrawn):
        raise ValueError(f"episode {number_E[redrawn[0]]}: each of {MOST_DRAWS} draws of {spec.num_ways} ways with "
                         f"{spec.num_shots} shots + {spec.num_queries} queries uses an origin (a sentence) twice: "
                         "the episode may be too large for so few sentences; lower one of them")
    N, k = spec.num_ways, spec.num_shots
    E, S, Q = len(class_EN), N * k, N * spec.num_queries
    support_ES = np.take_along_axis(row_ENm[..., :k].reshape(E, S), order_ES, axis=1)
    query_EQ = row_ENm[..., k:].reshape(E, Q)
    query_way_EQ = torch.arange(N).repeat_interleave(spec.num_queries).expand(E, Q)
    return Episodes(torch.from_numpy(class_EN), torch.from_numpy(support_ES),
                    torch.from_numpy(order_ES // max(k, 1)), torch.from_numpy(query_EQ), query_way_EQ)


def _draw(seed: int, number_E: np.ndarray, spec: EpisodeSpec, classes: ClassRows,
          draws: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make these draws of these episodes, draw after draw: (class_EN, row_ENm, order_ES), E = draws * episodes.

    m = num_shots + num_queries.
    """
    N, m = spec.num_ways, spec.samples_per_way
    sizes = [2 * N, 2 * m * N, N * spec.num_shots, 0 if spec.fine_grained is None else 2]
    words_WE = np.concatenate([random_words(seed, spec.stream, number_E, sum(sizes), draw) for draw in draws]).T
    class_words, sample_words, order_words, group_words = np.split(words_WE, np.cumsum(sizes[:-1]))
    E = words_WE.shape[1]
    words_2NE = class_words.reshape(2, N, E)
    if spec.fine_grained is None:
        class_NE = _draw_without_replacement(words_2NE, np.int64(classes.num_classes))
    else:
        groups, (share_E, place_E) = classes.groups_for(spec), to_uniform(group_words)
        group_E = groups.probabilities().cumsum()[:-1].searchsorted(place_E, side="right")
        group_E[share_E >= spec.fine_grained.share] = len(groups)  # one more group, which has all classes
        counts = np.append(groups.counts, classes.num_classes)
        starts = np.append(groups.starts, len(groups.members))
        members = np.append(groups.members, np.arange(classes.num_classes))
        class_NE = members[starts[group_E] + _draw_without_replacement(words_2NE, counts[group_E])]
    pick_mNE = _draw_without_replacement(sample_words.reshape(2, m, N, E), classes.counts[class_NE])
    row_ENm = classes.rows[classes.starts[class_NE] + pick_mNE].transpose(2, 1, 0)
    return np.ascontiguousarray(class_NE.T), row_ENm, order_words.T.argsort(axis=1)


def _origins_meet(row_ENm: np.ndarray, classes: ClassRows) -> np.ndarray:
    """Mark which of E episodes have two rows of one origin."""
    if classes.origin_R is None:
        return np.zeros(len(row_ENm), dtype=bool)
    E, N, m = row_ENm.shape
    origin_ET = np.sort(classes.origin_R[row_ENm].reshape(E, N * m), axis=1)
    return (origin_ET[:, 1:] == origin_ET[:, :-1]).any(axis=1)


def _draw_without_replacement(words: np.ndarray, population: np.ndarray | np.int64) -> np.ndarray:
    """Draw m of range(population), all orders equally likely; words (2, m, ...), population (...) -> (m, ...) int64.

    Floyd's algorithm (Bentley and Floyd 1987) draws a set in m steps whatever the population; sorting m random keys
    orders it. A bounded integer is the high half of a 32 x 32 bit product: its bias is population / 2^32.
    """
    draw, keys = words
    m = len(draw)
    high = (draw >> np.uint64(32)).astype(np.int64)
    picks = np.empty(draw.shape, dtype=np.int64)
    for i in range(m):
        last = population - m + i
        candidate = high[i] * (last + 1) >> 32
        taken = (picks[:i] == candidate).any(axis=0)
        picks[i] = np.where(taken, last, candidate)
    return np.take_along_axis(picks, keys.argsort(axis=0), axis=0)
