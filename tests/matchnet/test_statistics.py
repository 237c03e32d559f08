"""The 95% interval: its formula, and that it does hold the truth 95 times in 100."""

import math
import statistics

import numpy as np
import pytest

from matchnet.statistics import Z_95, mean_and_interval


def test_interval_is_the_textbook_formula() -> None:
    accuracies = [0.2, 0.6, 1.0, 0.8, 0.4, 0.4]
    mean, ci95 = mean_and_interval(np.array(accuracies))
    assert mean == pytest.approx(statistics.mean(accuracies))
    assert ci95 == pytest.approx(1.96 * statistics.stdev(accuracies) / math.sqrt(6), rel=1e-4)
    assert Z_95 == pytest.approx(statistics.NormalDist().inv_cdf(0.975), abs=1e-12)
    assert type(mean) is type(ci95) is float  # json writes these, and refuses numpy's


def test_equal_accuracies_have_no_interval() -> None:
    assert mean_and_interval(np.ones(10)) == (1.0, 0.0)


def test_single_precision_input_is_summed_in_double() -> None:
    accuracies = np.full(1_000_000, 0.1, dtype=np.float32)
    assert mean_and_interval(accuracies)[0] == pytest.approx(float(np.float32(0.1)), abs=1e-12)


def test_interval_holds_the_truth_95_times_in_100() -> None:
    """Episodes of five correlated queries, 400 a run: 4,000 runs give the coverage to 0.0034 (one sigma)."""
    generator = np.random.default_rng(0)
    difficulty = generator.beta(8, 2, size=(4000, 400))  # of each episode: its queries are not independent
    accuracies = generator.binomial(5, difficulty) / 5
    intervals = [mean_and_interval(run) for run in accuracies]
    covered = np.mean([abs(mean - 0.8) <= ci95 for mean, ci95 in intervals])
    assert 0.936 < covered < 0.964


@pytest.mark.parametrize("accuracies", [[], [0.5]])
def test_fewer_than_two_episodes_have_no_interval(accuracies: list[float]) -> None:
    with pytest.raises(ValueError, match=f"an interval over {len(accuracies)} episodes; it takes at least 2"):
        mean_and_interval(np.array(accuracies))
