"""Fine-grained episodes: against a slow reference, their properties, and on the groups that WordNet makes."""

import itertools
import tarfile
from fractions import Fraction

import numpy as np
import pytest
import torch
from small_omniglot import mirror
from test_episodes import as_lists, floyd

from matchnet.class_groups import ClassGroups
from matchnet.episodes import ClassRows, EpisodeSpec, FineGrainedSpec, sample_episodes
from matchnet.evaluation import EpisodeStream, run_episodes
from matchnet.methods.pixels import Pixels, PixelsSpec
from matchnet.parsing import parse
from matchnet.random_words import random_words, to_uniform
from matchnet.store import MemoryStore
from pipeline.data.splits import read_list
from pipeline.data.wordnet.class_tree import class_groups, imagenet_tree
from pipeline.results.columns import column_order, column_title

NUM_CLASSES = 30
SIZES = [5 + c % 3 for c in range(NUM_CLASSES)]
CLASS_ID_R = np.random.default_rng(0).permutation(np.repeat(np.arange(NUM_CLASSES), SIZES))
# Nested, overlapping, too small, too large; classes 28 and 29 are in none that fits.
GROUPS = [[0, 1, 2], [0, 1, 2, 3, 4], [4, 5, 6, 7], [5, 6, 7, 8, 9, 10], list(range(11, 19)), [17, 18, 19, 20],
          list(range(20, 28)), [28, 29], list(range(30))]
CLASSES = ClassRows.from_class_ids(CLASS_ID_R).with_groups(ClassGroups.from_lists(GROUPS))
FITTING = [set(group) for group in GROUPS if 4 <= len(group) <= 8]
FINE = EpisodeSpec(4, 1, 2, FineGrainedSpec(share=1.0, largest_group=8))
UNIFORM = EpisodeSpec(4, 1, 2)


def mixed(share: float) -> EpisodeSpec:
    return EpisodeSpec(4, 1, 2, FineGrainedSpec(share=share, largest_group=8))


def slow_probabilities(groups: list[set[int]]) -> list[Fraction]:
    """A class that is in any group, then a group that it is in."""
    covered = set.union(*groups)
    return [sum((Fraction(1, len(covered) * sum(member in other for other in groups)) for member in group), Fraction(0))
            for group in groups]


def surprise(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """How many standard deviations chi-square lies from its mean."""
    expected = counts.sum() * probabilities
    degrees = len(counts) - 1
    return float(abs(((counts - expected) ** 2 / expected).sum() - degrees) / np.sqrt(2 * degrees))


# ---- what is drawn ----

def reference_episode(seed: int, number: int, spec: EpisodeSpec) -> tuple[list[int], ...]:
    """One episode with Python's lists, from the words of the generator; the classes have their rows in order."""
    assert spec.fine_grained is not None
    N, k, m = spec.num_ways, spec.num_shots, spec.samples_per_way
    words = random_words(seed, spec.stream, [number], 2 * N + 2 * m * N + N * k + 2)[0]
    groups = [sorted(group) for group in GROUPS if N <= len(group) <= spec.fine_grained.largest_group]
    share, place = to_uniform(words[-2:])
    bounds = itertools.accumulate(map(float, slow_probabilities(list(map(set, groups)))))
    chosen = groups[next(g for g, bound in enumerate(bounds) if place < bound or g == len(groups) - 1)]
    candidates = chosen if share < spec.fine_grained.share else list(range(NUM_CLASSES))
    draw, keys, rest = words[:N].tolist(), words[N:2 * N].tolist(), words[2 * N:-2].tolist()
    classes = [candidates[pick] for pick in floyd([word >> 32 for word in draw], keys, len(candidates))]
    picks = []
    for way, class_id in enumerate(classes):
        rows = np.flatnonzero(CLASS_ID_R == class_id).tolist()
        column = rest[:2 * m * N][way::N]
        picks.append([rows[pick] for pick in floyd([word >> 32 for word in column[:m]], column[m:], len(rows))])
    order = sorted(range(N * k), key=lambda i: rest[2 * m * N:][i])
    support = [(picks[i // k][i % k], i // k) for i in order]
    query = [(row, way) for way in range(N) for row in picks[way][k:]]
    return (classes, [row for row, _ in support], [way for _, way in support],
            [row for row, _ in query], [way for _, way in query])


@pytest.mark.parametrize("spec", [FINE, mixed(0.5), EpisodeSpec(5, 2, 3, FineGrainedSpec(largest_group=6)),
                                  EpisodeSpec(2, 1, 1, FineGrainedSpec(share=0.2, largest_group=30))])
def test_episodes_are_those_of_the_slow_reference(spec: EpisodeSpec) -> None:
    numbers = [*range(40), 10**12]
    assert as_lists(sample_episodes(3, numbers, spec, CLASSES)) == [reference_episode(3, n, spec) for n in numbers]


def test_stream_never_changes() -> None:
    """Golden values, the same in any process: a change here gives every result other episodes."""
    assert sample_episodes(7, [0, 1, 1000], mixed(0.5), CLASSES).class_EN.tolist() == GOLDEN_CLASSES


def test_groups_change_nothing_for_uniform_episodes() -> None:
    alone = ClassRows.from_class_ids(CLASS_ID_R)
    assert as_lists(sample_episodes(1, range(99), UNIFORM, CLASSES)) == as_lists(sample_episodes(1, range(99), UNIFORM,
                                                                                                alone))


@pytest.mark.parametrize("spec", [FINE, mixed(0.5)])
def test_any_subset_in_any_order_gives_the_same_episodes(spec: EpisodeSpec) -> None:
    together = as_lists(sample_episodes(1, range(50), spec, CLASSES))
    for numbers in ([49], [3, 2, 1], [0, 1, 40, 41, 7], range(49, -1, -1), [5, 5]):
        assert as_lists(sample_episodes(1, numbers, spec, CLASSES)) == [together[i] for i in numbers]
    assert sample_episodes(1, [], spec, CLASSES).class_EN.shape == (0, 4)


def test_another_seed_gives_other_episodes() -> None:
    first, other = (sample_episodes(seed, range(100), FINE, CLASSES).class_EN for seed in (1, 2))
    assert (first == other).all(dim=1).sum() <= 3


# ---- what an episode is ----

MANY = sample_episodes(11, range(20_000), FINE, CLASSES)


def test_all_classes_are_of_one_group_that_fits() -> None:
    for classes in set(map(tuple, MANY.class_EN.tolist())):
        assert len(set(classes)) == 4 and any(set(classes) <= group for group in FITTING)


def test_samples_are_distinct_and_ways_are_their_classes() -> None:
    episodes = sample_episodes(0, range(300), mixed(0.5), CLASSES)
    for classes, support, support_way, query, query_way in as_lists(episodes):
        assert len(set(support + query)) == 4 * 3  # none twice
        assert [classes[way] for way in support_way + query_way] == CLASS_ID_R[support + query].tolist()
        assert sorted(support_way) == [0, 1, 2, 3] and query_way == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_of_episodes_within_a_group(share: float) -> None:
    """Of 100 disjoint groups of 4, uniform ways are of one once in a million."""
    class_id_R = np.repeat(np.arange(400), 2)
    classes = ClassRows.from_class_ids(class_id_R).with_groups(
        ClassGroups.from_lists(range(first, first + 4) for first in range(0, 400, 4)))
    spec = EpisodeSpec(4, 1, 1, FineGrainedSpec(share=share))
    group_EN = sample_episodes(5, range(20_000), spec, classes).class_EN // 4
    within = (group_EN == group_EN[:, :1]).all(dim=1)
    assert abs(int(within.sum()) - 20_000 * share) < 4 * np.sqrt(20_000 * share * (1 - share))
    uniform = np.bincount(group_EN[~within][:, 0], minlength=100)
    assert surprise(uniform, np.full(100, 0.01)) < 4


def test_a_larger_share_makes_more_of_the_same_episodes_fine() -> None:
    few, more, all_fine = (as_lists(sample_episodes(2, range(400), mixed(share), CLASSES)) for share in (0.3, 0.6, 1.0))
    stay = [few[i] == more[i] for i in range(400)]
    assert all(stay[i] or more[i] == all_fine[i] for i in range(400))
    assert 0.55 < np.mean(stay) < 0.85  # 1 - (0.6 - 0.3)
    assert all(more[i] == all_fine[i] for i in range(400) if few[i] == all_fine[i])


def test_fine_grained_and_uniform_episodes_share_no_words() -> None:
    assert FINE.stream != UNIFORM.stream and FINE.stream < 2**64
    fine, uniform = (random_words(1, spec.stream, range(50), 20) for spec in (FINE, UNIFORM))
    assert not np.isin(fine, uniform).any()


# ---- how likely ----

def test_probabilities_are_the_slow_ones() -> None:
    groups = CLASSES.groups_for(FINE)
    assert [set(group.tolist()) for group in groups] == FITTING
    assert np.allclose(groups.probabilities(), list(map(float, slow_probabilities(FITTING))), rtol=0, atol=1e-15)
    assert groups.probabilities().sum() == pytest.approx(1, abs=1e-15)


def test_disjoint_groups_are_as_likely_as_they_are_large() -> None:
    groups = ClassGroups.from_lists([[0, 1], [2, 3, 4, 5], [6, 7, 8]])
    assert np.allclose(groups.probabilities(), [2 / 9, 4 / 9, 3 / 9])


def test_every_group_comes_up_as_often_as_it_should() -> None:
    """Groups of as many classes as there are ways, so that an episode tells its group; a class is in three."""
    sets = [{0, 1, 2}, {2, 3, 4}, {2, 5, 6}, {7, 8, 9}]
    classes = ClassRows.from_class_ids(np.repeat(np.arange(10), 2)).with_groups(ClassGroups.from_lists(sets))
    drawn = sample_episodes(0, range(20_000), EpisodeSpec(3, 1, 1, FineGrainedSpec(largest_group=3)), classes).class_EN
    counts = np.array([sum(set(ways) == group for ways in drawn.tolist()) for group in sets])
    assert counts.sum() == 20_000 and surprise(counts, np.array(list(map(float, slow_probabilities(sets))))) < 4


@pytest.mark.parametrize("way", range(4))
def test_every_class_comes_up_as_often_as_its_groups_make_it(way: int) -> None:
    expected = np.zeros(NUM_CLASSES)
    for group, probability in zip(FITTING, slow_probabilities(FITTING), strict=True):
        expected[list(group)] += float(probability) / len(group)
    counts = np.bincount(MANY.class_EN[:, way], minlength=NUM_CLASSES)
    assert (counts[expected == 0] == 0).all()
    assert surprise(counts[expected > 0], expected[expected > 0]) < 4


def test_every_order_of_every_choice_within_a_group_is_as_likely() -> None:
    classes = CLASSES.with_groups(ClassGroups.from_lists([[3, 9, 12, 20, 21]]))
    drawn = sample_episodes(0, range(24_000), FINE, classes).class_EN
    orders, counts = np.unique(drawn.numpy(), axis=0, return_counts=True)
    assert len(orders) == 5 * 4 * 3 * 2 and surprise(counts, np.full(120, 1 / 120)) < 4


# ---- with what else there is ----

def test_rows_of_one_origin_never_meet_in_a_group_either() -> None:
    origin_R = np.random.default_rng(1).integers(0, 250, len(CLASS_ID_R))
    bound = ClassRows.from_class_ids(CLASS_ID_R, origin_R=origin_R).with_groups(ClassGroups.from_lists(GROUPS))
    together = sample_episodes(1, range(500), FINE, bound)
    for origins in origin_R[torch.cat([together.support_ES, together.query_EQ], dim=1)].tolist():
        assert len(set(origins)) == len(origins)
    for classes in together.class_EN.tolist():
        assert any(set(classes) <= group for group in FITTING)
    assert as_lists(together) != as_lists(sample_episodes(1, range(500), FINE, CLASSES)), "some were drawn again"
    assert as_lists(sample_episodes(1, [499, 3], FINE, bound)) == [as_lists(together)[i] for i in (499, 3)]


def test_classes_that_are_left_out_leave_their_groups() -> None:
    left = CLASSES.with_at_least(6)  # classes 0, 3, 6, ... have 5 rows
    kept = [c for c in range(NUM_CLASSES) if SIZES[c] >= 6]
    expected = [tuple(kept.index(c) for c in group if c in kept) for group in GROUPS]
    assert left.groups is not None
    assert [tuple(group.tolist()) for group in left.groups] == list(dict.fromkeys(expected))


def test_evaluation_runs_on_fine_grained_episodes() -> None:
    features = MemoryStore(torch.rand(len(CLASS_ID_R), 16))
    batches = [episodes for episodes, _ in
               run_episodes(Pixels(PixelsSpec()), features, EpisodeStream(CLASSES, FINE, seed=4), range(50))]
    assert torch.equal(torch.cat([episodes.class_EN for episodes in batches]),
                       sample_episodes(4, range(50), FINE, CLASSES).class_EN)


# ---- groups ----

def test_equal_groups_count_once_and_empty_ones_not_at_all() -> None:
    groups = ClassGroups.from_lists([[3, 1], [], [1, 3], [2], [3, 1, 1]])
    assert [group.tolist() for group in groups] == [[1, 3], [2]] and len(groups) == 2
    assert len(ClassGroups.from_lists([])) == 0


@pytest.mark.parametrize("make, message", [
    (lambda: EpisodeSpec(5, 1, 1, FineGrainedSpec(largest_group=4)),
     "fine_grained.largest_group is 4; a group must have as many classes as an episode has ways, 5, or more"),
    (lambda: FineGrainedSpec(share=0), "share is 0; it must be above 0 and at most 1; for uniform episodes alone"),
    (lambda: FineGrainedSpec(share=1.5), "share is 1.5; it must be above 0 and at most 1"),
    (lambda: sample_episodes(0, [0], FINE, ClassRows.from_class_ids(CLASS_ID_R)),
     "fine_grained: these classes have no groups, such as WordNet makes of ImageNet's; leave fine_grained out"),
    (lambda: CLASSES.check(EpisodeSpec(9, 1, 1, FineGrainedSpec(largest_group=20))),
     "none of the 9 groups of 30 classes has 9 (num_ways) to 20 (largest_group) of them; lower num_ways or raise"),
    (lambda: CLASSES.with_groups(ClassGroups.from_lists([[1, 30]])),
     "groups have classes at positions 1 to 30, and there are 30 classes; make them of the same classes"),
])
def test_errors_say_what_is_wrong(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)


def test_column_names_the_task() -> None:
    assert FINE.column == "fine-4w1s" and UNIFORM.column == "4w1s"


def test_tables_tell_fine_grained_columns_from_others() -> None:
    columns = ["other", "fine-5w5s", "20w1s", "fine-5w1s", "5w1s4q", "fine-5w1s4q", "5w1s"]
    assert sorted(columns, key=column_order) == ["5w1s", "20w1s", "5w1s4q", "fine-5w1s", "fine-5w5s", "fine-5w1s4q",
                                                 "other"]
    assert [column_title(column) for column in ("5w1s", "5w1s4q", "fine-5w1s1q", "fine-20w5s", "other")] == [
        "5-way 1-shot", "5-way 1-shot, 4 queries a way", "5-way 1-shot, 1 query a way, fine-grained",
        "20-way 5-shot, fine-grained", "other"]


def test_a_spec_is_read_from_parameters() -> None:
    values = {"num_ways": 5, "num_shots": 1, "num_queries": 5, "fine_grained": {"share": 0.5, "largest_group": 20}}
    assert parse(EpisodeSpec, values, "columns.5w1s") == EpisodeSpec(5, 1, 5, FineGrainedSpec(0.5, 20))
    assert parse(EpisodeSpec, {**values, "fine_grained": None}, "columns.5w1s") == EpisodeSpec(5, 1, 5)


# ---- on ImageNet's classes ----

def standin_classes() -> list[str]:
    """The synsets of the mirror's archive."""
    with tarfile.open(f"{mirror()}/imagenet/ILSVRC2012_img_train.tar") as archive:
        return sorted(name.removesuffix(".tar") for name in archive.getnames())


@pytest.mark.parametrize("excluded", ["imagenet_rand.txt", "imagenet_dogs.txt"])
def test_episodes_of_imagenet_lie_below_a_node_of_wordnet(excluded: str) -> None:
    names = [name for name in standin_classes() if name not in read_list(excluded)][::-1]  # in any order
    spec = EpisodeSpec(5, 1, 1, FineGrainedSpec(largest_group=20))
    classes = ClassRows.from_class_ids(np.repeat(np.arange(len(names)), 2)).with_groups(class_groups(names))
    fitting = [set(below) for below in imagenet_tree().classes_below(names).values() if 5 <= len(below) <= 20]
    assert {frozenset(names[c] for c in group) for group in classes.groups_for(spec)} == set(map(frozenset, fitting))
    for ways in sample_episodes(0, range(500), spec, classes).class_EN.tolist():
        assert any({names[c] for c in ways} <= below for below in fitting)


GOLDEN_CLASSES = [[14, 12, 18, 11], [0, 4, 1, 2], [1, 24, 0, 17]]
