"""Comparing methods over seeds: the interval holds the truth as often as it says, and the sentence says no more."""

import numpy as np
import pytest

from matchnet.statistics import mean_and_interval
from pipeline.results.seeds import mean_over_seeds
from pipeline.seeds import in_words


@pytest.mark.parametrize(("of_training", "of_episode", "rest"), [(1.0, 0.0, 5.0), (0.2, 5.0, 5.0), (0.0, 0.0, 5.0)])
def test_interval_holds_the_truth_at_least_95_times_in_100(of_training: float, of_episode: float, rest: float) -> None:
    generator = np.random.default_rng(0)
    T, E, times, truth = 3, 50, 2000, 0.3
    held = 0
    for _ in range(times):
        difference_TE = (truth + of_training * generator.normal(size=(T, 1)) + of_episode * generator.normal(size=E)
                         + rest * generator.normal(size=(T, E)))
        mean, ci95 = mean_over_seeds(difference_TE)
        held += abs(mean - truth) <= ci95
    assert held / times > 0.94


def test_an_interval_over_episodes_alone_is_too_narrow_where_trainings_differ() -> None:
    generator = np.random.default_rng(1)
    difference_TE = generator.normal(size=(3, 1)) + generator.normal(size=(3, 1000))
    mean, ci95 = mean_over_seeds(difference_TE)
    assert mean == pytest.approx(difference_TE.mean())
    assert ci95 > 5 * mean_and_interval(difference_TE.mean(0))[1]


def test_by_hand() -> None:
    """Two trainings that differ by 2 in each of three episodes: pairs 6, episodes 2, rest 0; 64 / 38 = 1.68 degrees."""
    mean, ci95 = mean_over_seeds(np.array([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]))
    assert mean == 2.0
    assert ci95 == pytest.approx(5.18 * np.sqrt(8 / 6), rel=0.01)


def test_no_spread_and_too_few() -> None:
    assert mean_over_seeds(np.full((2, 5), 0.1)) == (pytest.approx(0.1), pytest.approx(0.0))
    with pytest.raises(ValueError, match="over 1 pairs of trainings and 9 episodes; it takes at least 2 of both"):
        mean_over_seeds(np.zeros((1, 9)))


def test_the_sentence_says_what_is_shown() -> None:
    generator = np.random.default_rng(2)
    noise_TE = 0.1 * generator.normal(size=(3, 1000))
    assert in_words(0.05 + noise_TE).endswith(": a gain is shown")
    assert in_words(noise_TE - 0.05).endswith(": a loss is shown")
    assert in_words(noise_TE).endswith(": no difference is shown")
