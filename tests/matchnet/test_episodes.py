"""Episodes against a slow reference, and the properties that make a comparison of methods fair."""

from collections import Counter

import numpy as np
import pytest
import torch

from matchnet.episodes import ClassRows, Episodes, EpisodeSpec, sample_episodes
from matchnet.random_words import random_words, to_uniform
from matchnet.store import MemoryStore, with_rotations

SIZES = [7, 5, 9, 6, 12, 5, 8]  # samples of each class: unequal
SPEC = EpisodeSpec(num_ways=4, num_shots=2, num_queries=3)


def class_ids(sizes: list[int] = SIZES, seed: int = 0) -> np.ndarray:
    """The class of each row, shuffled: the rows of a class do not lie together in a store."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


CLASS_ID_R = class_ids()
CLASSES = ClassRows.from_class_ids(CLASS_ID_R)


def as_lists(episodes: Episodes) -> list[tuple[list[int], ...]]:
    """One entry an episode: its classes, support rows and ways, query rows and ways."""
    tensors = (episodes.class_EN, episodes.support_ES, episodes.support_way_ES, episodes.query_EQ,
               episodes.query_way_EQ)
    return list(zip(*(tensor.tolist() for tensor in tensors), strict=True))


def surprise(counts: np.ndarray) -> float:
    """How many standard deviations chi-square lies from its mean, if all outcomes were equally likely."""
    expected = counts.sum() / counts.size
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = counts.size - 1
    return float(abs(chi_square - degrees) / np.sqrt(2 * degrees))


# ---- what is drawn, by a slow reference ----

def floyd(high_words: list[int], keys: list[int], population: int) -> list[int]:
    """Robert Floyd's sampling without replacement with 32-bit words, then the order of the sorted keys."""
    picks: list[int] = []
    for word, last in zip(high_words, range(population - len(keys), population), strict=True):
        candidate = word * (last + 1) // 2**32
        picks.append(last if candidate in picks else candidate)
    return [picks[i] for i in sorted(range(len(keys)), key=lambda i: keys[i])]


def reference_episode(seed: int, number: int, spec: EpisodeSpec,
                      class_id_R: np.ndarray) -> tuple[list[int], ...]:
    """One episode with Python's integers and lists, from the words of the generator."""
    N, k, m = spec.num_ways, spec.num_shots, spec.num_shots + spec.num_queries
    words = iter(random_words(seed, spec.stream, [number], 2 * N + 2 * m * N + N * k)[0].tolist())

    def table(rows: int, columns: int) -> list[list[int]]:
        return [[next(words) for _ in range(columns)] for _ in range(rows)]

    (draw,), (keys,) = table(1, N), table(1, N)
    classes = floyd([word >> 32 for word in draw], keys, int(class_id_R.max()) + 1)
    draws, key_rows = table(m, N), table(m, N)
    order = table(1, N * k)[0]
    support: list[tuple[int, int]] = []
    query: list[tuple[int, int]] = []
    for way, class_id in enumerate(classes):
        rows = np.flatnonzero(class_id_R == class_id).tolist()
        picks = floyd([row[way] >> 32 for row in draws], [row[way] for row in key_rows], len(rows))
        support += [(rows[pick], way) for pick in picks[:k]]
        query += [(rows[pick], way) for pick in picks[k:]]
    support = [support[i] for i in sorted(range(len(order)), key=lambda i: order[i])]
    return (classes, [row for row, _ in support], [way for _, way in support],
            [row for row, _ in query], [way for _, way in query])


@pytest.mark.parametrize("spec", [SPEC, EpisodeSpec(2, 1, 1), EpisodeSpec(7, 4, 1), EpisodeSpec(3, 0, 5)])
def test_episodes_are_those_of_the_slow_reference(spec: EpisodeSpec) -> None:
    numbers = [0, 1, 2, 17, 10**12]
    expected = [reference_episode(3, number, spec, CLASS_ID_R) for number in numbers]
    assert as_lists(sample_episodes(3, numbers, spec, CLASSES)) == expected


def test_stream_never_changes() -> None:
    """Golden values, the same in any process: a change here gives every result other episodes."""
    classes = ClassRows.from_class_ids(np.arange(30) % 5)
    assert as_lists(sample_episodes(7, [0, 1000], EpisodeSpec(3, 2, 1), classes)) == GOLDEN_EPISODES
    assert random_words(1, 2, [3], 3).tolist() == GOLDEN_WORDS


def test_philox_is_the_published_one() -> None:
    """The known answer of Random123 for philox4x64, 10 rounds, counter and key zero."""
    first_block = np.random.Philox(counter=2**256 - 1, key=np.zeros(2, np.uint64)).random_raw(4)
    assert [f"{word:016x}" for word in first_block] == [
        "16554d9eca36314c", "db20fe9d672d0fdc", "d7e772cee186176b", "7e68b68aec7ba23b"]


# ---- a pure function of (seed, number, spec) ----

def test_any_subset_in_any_order_gives_the_same_episodes() -> None:
    together = as_lists(sample_episodes(1, range(50), SPEC, CLASSES))
    for numbers in ([49], [3, 2, 1], [0, 1, 2, 40, 41, 7], range(49, -1, -1), [5, 5], range(1, 50, 3)):
        assert as_lists(sample_episodes(1, numbers, SPEC, CLASSES)) == [together[i] for i in numbers]


def test_no_numbers_give_no_episodes() -> None:
    episodes = sample_episodes(1, [], SPEC, CLASSES)
    assert len(episodes) == 0 and episodes.support_ES.shape == (0, 8) and episodes.query_EQ.shape == (0, 12)


def test_global_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    first = as_lists(sample_episodes(1, range(3), SPEC, CLASSES))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    torch.manual_seed(1)
    np.random.seed(1)
    assert as_lists(sample_episodes(1, range(3), SPEC, CLASSES)) == first


@pytest.mark.parametrize("seed, spec", [
    (2, SPEC), (1 + 2**32, SPEC), (1, EpisodeSpec(4, 3, 2)), (1, EpisodeSpec(4, 2, 2)),
    (1, EpisodeSpec(5, 2, 3))])
def test_another_seed_or_spec_gives_other_episodes(seed: int, spec: EpisodeSpec) -> None:
    base = sample_episodes(1, range(200), SPEC, CLASSES).class_EN[:, :4]
    other = sample_episodes(seed, range(200), spec, CLASSES).class_EN[:, :4]
    same = (base == other).all(dim=1).sum().item()
    assert same <= 4  # 200 / (7 * 6 * 5 * 4) = 0.24 by chance


def test_consecutive_episodes_share_no_words() -> None:
    words = random_words(5, 6, range(100), 7)
    assert len(np.unique(words)) == 700
    assert (to_uniform(words) >= 0).all() and (to_uniform(words) < 1).all()
    assert to_uniform(np.array([2**64 - 1], dtype=np.uint64))[0] < 1


# ---- what an episode is ----

@pytest.mark.parametrize("spec", [SPEC, EpisodeSpec(7, 1, 4), EpisodeSpec(2, 4, 1), EpisodeSpec(5, 0, 5)])
def test_samples_are_distinct_and_ways_are_their_classes(spec: EpisodeSpec) -> None:
    episodes = sample_episodes(0, range(300), spec, CLASSES)
    for classes, support, support_way, query, query_way in as_lists(episodes):
        assert len(set(classes)) == spec.num_ways
        assert len(set(support + query)) == spec.num_ways * spec.samples_per_way  # none twice
        assert [classes[way] for way in support_way + query_way] == CLASS_ID_R[support + query].tolist()
        assert Counter(support_way) == Counter(list(range(spec.num_ways)) * spec.num_shots)
        assert Counter(query_way) == Counter(list(range(spec.num_ways)) * spec.num_queries)


def test_tensors_are_int64_and_their_shapes_as_promised() -> None:
    episodes = sample_episodes(0, range(6), SPEC, CLASSES)
    assert len(episodes) == 6 and episodes.num_ways == 4
    shapes = {name: tuple(tensor.shape) for name, tensor in vars(episodes).items()}
    assert shapes == {"class_EN": (6, 4), "support_ES": (6, 8), "support_way_ES": (6, 8),
                      "query_EQ": (6, 12), "query_way_EQ": (6, 12)}
    assert all(tensor.dtype == torch.int64 for tensor in vars(episodes).values())


# ---- everything is equally likely ----

MANY = sample_episodes(11, range(20_000), SPEC, CLASSES)


@pytest.mark.parametrize("way", range(4))
def test_every_class_is_equally_likely_at_every_way(way: int) -> None:
    assert surprise(np.bincount(MANY.class_EN[:, way], minlength=7)) < 4


def test_every_ordered_pair_of_classes_is_equally_likely() -> None:
    pairs = np.bincount(MANY.class_EN[:, 0] * 7 + MANY.class_EN[:, 3], minlength=49).reshape(7, 7)
    assert (np.diag(pairs) == 0).all()
    assert surprise(pairs[~np.eye(7, dtype=bool)]) < 4


@pytest.mark.parametrize("class_id", range(7))
@pytest.mark.parametrize("part", ["support", "query"])
def test_every_sample_of_a_class_is_equally_likely(class_id: int, part: str) -> None:
    """One item an episode: items of one episode are drawn without replacement, so not independent."""
    rows = MANY.support_ES if part == "support" else MANY.query_EQ
    for position in (0, rows.shape[1] - 1):
        row_E = rows[:, position].numpy()
        of_class = row_E[CLASS_ID_R[row_E] == class_id]
        counts = np.bincount(of_class, minlength=len(CLASS_ID_R))[CLASS_ID_R == class_id]
        assert len(counts) == SIZES[class_id] and surprise(counts) < 4


def test_every_way_is_equally_likely_at_every_place_of_the_support_sequence() -> None:
    for place in range(8):
        assert surprise(np.bincount(MANY.support_way_ES[:, place], minlength=4)) < 4


def test_every_order_of_the_support_sequence_is_equally_likely() -> None:
    episodes = sample_episodes(4, range(12_000), EpisodeSpec(4, 1, 1), CLASSES)
    codes = (episodes.support_way_ES * torch.tensor([64, 16, 4, 1])).sum(1).numpy()
    orders, counts = np.unique(codes, return_counts=True)
    assert len(orders) == 24 and surprise(counts) < 4


# ---- classes ----

def test_class_subset_keeps_its_order_and_draws_from_nothing_else() -> None:
    subset = ClassRows.from_class_ids(CLASS_ID_R, classes=[6, 2, 4])
    assert subset.num_classes == 3 and subset.counts.tolist() == [8, 9, 12]
    episodes = sample_episodes(0, range(200), EpisodeSpec(3, 2, 3), subset)
    for positions, support, support_way, query, query_way in as_lists(episodes):
        expected = [[6, 2, 4][positions[way]] for way in support_way + query_way]
        assert CLASS_ID_R[support + query].tolist() == expected


def test_class_ids_need_not_be_consecutive() -> None:
    classes = ClassRows.from_class_ids(np.array([40, 7, 40, 7, 40]))
    assert classes.counts.tolist() == [2, 3]  # 7 before 40
    episode = sample_episodes(0, [0], EpisodeSpec(2, 1, 1), classes)
    rows_by_position = {0: {1, 3}, 1: {0, 2, 4}}
    for row, way in zip(episode.support_ES[0].tolist(), episode.support_way_ES[0].tolist(), strict=True):
        assert row in rows_by_position[int(episode.class_EN[0, way])]


@pytest.mark.parametrize("make, message", [
    (lambda: ClassRows.from_class_ids(CLASS_ID_R, [1, 9]), "class_id 9 has no row in the store; 7 classes"),
    (lambda: ClassRows.from_class_ids(np.array([], int), [4]), "class_id 4 has no row in the store; 0 class"),
    (lambda: ClassRows.from_class_ids(CLASS_ID_R, [1, 2, 1]), "class_id 1 is listed twice"),
    (lambda: sample_episodes(0, [0], EpisodeSpec(8, 1, 1), CLASSES), "8 ways of 7 classes; lower num_ways"),
    (lambda: sample_episodes(0, [0], EpisodeSpec(5, 1, 5), CLASSES),
     "class at position 1 has 5 samples; 1 shots + 5 queries need 6; lower one of them"),
    (lambda: sample_episodes(-1, [0], SPEC, CLASSES), "seed is -1; it must be at least 0"),
    (lambda: EpisodeSpec(1, 1, 1), "num_ways is 1; it must be at least 2"),
    (lambda: EpisodeSpec(5, -1, 1), "num_shots is -1; it must be at least 0"),
    (lambda: EpisodeSpec(5, 1, 0), "num_queries is 0; it must be at least 1"),
])
def test_errors_say_what_is_wrong(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)


def test_column_names_the_task() -> None:
    assert EpisodeSpec(20, 5, 5).column == "20w5s"


def test_streams_of_specs_are_distinct() -> None:
    specs = [EpisodeSpec(n, k, q) for n in (2, 5, 20, 100) for k in (0, 1, 5, 20) for q in (1, 5, 15)]
    assert len({spec.stream for spec in specs}) == len(specs) == 48


# ---- rows of a common origin ----

ORIGIN_R = np.random.default_rng(1).integers(0, 120, len(CLASS_ID_R))  # some of 52 rows share an origin
OF_ORIGINS = ClassRows.from_class_ids(CLASS_ID_R, origin_R=ORIGIN_R)


def test_rows_of_one_origin_never_meet() -> None:
    free, bound = sample_episodes(1, range(2000), SPEC, CLASSES), sample_episodes(1, range(2000), SPEC, OF_ORIGINS)
    origins = [ORIGIN_R[torch.cat([drawn.support_ES, drawn.query_EQ], dim=1)] for drawn in (free, bound)]
    met = np.array([len(set(row)) < len(row) for row in origins[0].tolist()])
    assert all(len(set(row)) == len(row) for row in origins[1].tolist())
    assert met.mean() > 0.5, "most take several draws here"
    kept = [as_lists(free)[i] == as_lists(bound)[i] for i in np.flatnonzero(~met)]
    assert all(kept) and len(kept) > 10, "an episode without a meeting is the one that is drawn without origins"


def test_redrawn_episodes_do_not_depend_on_their_batch() -> None:
    together = as_lists(sample_episodes(1, range(50), SPEC, OF_ORIGINS))
    for numbers in ([49], [3, 2, 1], [0, 1, 2, 40, 41, 7], range(49, -1, -1), [5, 5], range(1, 50, 3)):
        assert as_lists(sample_episodes(1, numbers, SPEC, OF_ORIGINS)) == [together[i] for i in numbers]
    assert len(sample_episodes(1, [], SPEC, OF_ORIGINS)) == 0


def test_redrawn_episodes_are_those_of_the_first_draw_that_does() -> None:
    """The slow way: draw by draw, each at its own counter, and the first without a meeting is it."""
    rows = {0: [0, 1, 2], 1: [3, 4, 5]}
    classes = ClassRows.from_class_ids(np.array([0, 0, 0, 1, 1, 1]), origin_R=np.array([7, 8, 9, 7, 8, 6]))
    spec = EpisodeSpec(2, 1, 1)
    for number, episode in enumerate(as_lists(sample_episodes(3, range(40), spec, classes))):
        for draw in range(99):
            words = random_words(3, spec.stream, [number], 2 * 2 + 2 * 2 * 2 + 2, draw)[0].tolist()
            order = floyd([word >> 32 for word in words[:2]], words[2:4], 2)
            picks = [floyd([words[4 + way] >> 32, words[6 + way] >> 32], [words[8 + way], words[10 + way]], 3)
                     for way in range(2)]
            drawn = [rows[order[way]][pick] for way in range(2) for pick in picks[way]]
            if len({[7, 8, 9, 7, 8, 6][row] for row in drawn}) == 4:
                break
        assert sorted(drawn) == sorted(episode[1] + episode[3])


def test_all_episodes_without_a_meeting_are_equally_likely() -> None:
    """Classes of 2, 3 and 2 rows over 5 origins; 2 ways with a shot and a query each."""
    classes = ClassRows.from_class_ids(np.array([0, 0, 1, 1, 1, 2, 2]), origin_R=np.array([0, 1, 1, 2, 3, 0, 4]))
    drawn = Counter((tuple(support), tuple(query)) for _, support, _, query, _ in
                    as_lists(sample_episodes(0, range(40_000), EpisodeSpec(2, 1, 1), classes)))
    # rows of class 0 with {3, 4} of class 1; with both of class 2 never (0 and 5 meet); class 1's three pairs with 2's
    assert {frozenset(support + query) for support, query in drawn} == {
        frozenset({0, 1, 3, 4}), frozenset({2, 3, 5, 6}), frozenset({2, 4, 5, 6}), frozenset({3, 4, 5, 6})}
    by_rows = Counter(frozenset(support + query) for support, query in drawn.elements())
    of_class_2 = np.array([by_rows[frozenset({a, b, 5, 6})] for a, b in ((2, 3), (2, 4), (3, 4))])
    # an episode of classes 0 and 1 is as likely as of 1 and 2, before meetings: each set of rows then is as likely
    assert surprise(np.array([*of_class_2, by_rows[frozenset({0, 1, 3, 4})]])) < 4


def test_classes_that_only_share_origins_end_with_an_error() -> None:
    classes = ClassRows.from_class_ids(np.array([0, 0, 1, 1]), origin_R=np.array([5, 6, 5, 6]))
    message = ("episode 4: each of 1000 draws of 2 ways with 1 shots + 1 queries uses an origin (a sentence) twice: "
               "the episode may be too large for so few sentences; lower one of them")
    with pytest.raises(ValueError) as error:
        sample_episodes(0, [4, 5], EpisodeSpec(2, 1, 1), classes)
    assert str(error.value) == message


def test_classes_with_too_few_rows_are_left_out() -> None:
    left = OF_ORIGINS.with_at_least(7)
    assert left.num_classes == 4 and left.counts.tolist() == [7, 9, 12, 8] and left.origin_R is ORIGIN_R
    episodes = sample_episodes(0, range(100), EpisodeSpec(3, 1, 1), left)
    used = episodes.row_ET
    assert set(CLASS_ID_R[used].flatten()) == {0, 2, 4, 6}
    assert OF_ORIGINS.with_at_least(13).num_classes == 0
    with pytest.raises(ValueError, match="2 ways of 1 classes; lower num_ways or use a larger part"):
        OF_ORIGINS.with_at_least(12).check(EpisodeSpec(2, 1, 1))


# ---- stores ----

def test_store_gathers_rows_of_any_shape() -> None:
    store = MemoryStore(torch.arange(24, dtype=torch.uint8).view(6, 1, 2, 2))
    rows = torch.tensor([[5, 0], [3, 3]])
    samples = store.gather(rows)
    assert len(store) == 6 and store.sample_shape == (1, 2, 2)
    assert samples.shape == (2, 2, 1, 2, 2) and samples.dtype == torch.uint8
    assert samples[:, :, 0, 0, 0].tolist() == [[20, 0], [12, 12]]


def test_rotations_are_new_classes() -> None:
    """Class c + r C is class c turned r times counter-clockwise, pixel by pixel."""
    images = torch.randint(0, 256, (6, 2, 3, 3), dtype=torch.uint8)
    class_id_R = np.array([0, 2, 1, 0, 2, 1])
    store, rotated_class = with_rotations(MemoryStore(images), class_id_R)
    assert len(store) == 24 and store.sample_shape == (2, 3, 3)
    for r in range(4):
        for row in range(6):
            assert rotated_class[r * 6 + row] == class_id_R[row] + r * 3
            turned = images[row]
            for _ in range(r):  # counter-clockwise: the right edge comes to the top
                turned = torch.stack([turned[:, :, 2 - i] for i in range(3)], dim=1)
            assert torch.equal(store.samples[r * 6 + row], turned)


GOLDEN_EPISODES: list[tuple[list[int], ...]] = [
    ([3, 2, 4], [24, 12, 17, 8, 23, 9], [2, 1, 1, 0, 0, 2], [28, 22, 19], [0, 1, 2]),
    ([2, 0, 4], [0, 20, 27, 2, 14, 29], [1, 1, 0, 0, 2, 2], [7, 5, 24], [0, 1, 2])]
GOLDEN_WORDS = [[12041484836206075626, 2041653232955156763, 13509355576974963856]]
