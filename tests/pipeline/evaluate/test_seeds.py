"""Comparing methods over seeds: the interval holds the truth as often as it says, and the sentence says no more."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_comparison import COLUMN, ROWS, prepared

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.statistics import mean_and_interval
from pipeline import paths
from pipeline.evaluate.row import write_columns
from pipeline.params import ModelParams, Params
from pipeline.results.seeds import mean_over_seeds
from pipeline.seeds import differences, in_words


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


PAIRS = [("t/fce", "t/linear"), ("t/fce-1", "t/linear-1")]


Evaluated = tuple[Params, dict[str, np.ndarray]]


@pytest.fixture
def evaluated(small_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluated:
    """Two trainings of each of two methods, with accuracies made up, and kept as the evaluation keeps them."""
    params = prepared(small_shards, tmp_path, monkeypatch)
    row, generator = ROWS["t/ours"], np.random.default_rng(3)
    models, rows, accuracies = {}, {}, {}
    for seed, pair in enumerate(PAIRS):
        for name, size in zip(pair, (4, 5), strict=True):
            models[name] = ModelParams(dataset="small", split="random", image_size=16,
                                       method=MatchingNetworkSpec(encoder=Conv4Spec(num_filters=size)),
                                       training=EpisodicSpec(episode=EpisodeSpec(2, 1, 1), steps=1, seed=seed))
            rows[name], accuracies[name] = replace(row, model=name), generator.integers(0, 13, row.episodes) / 12
            write_columns(paths.accuracies_file(name), {COLUMN: accuracies[name]})
            shutil.copy(paths.details_file("t/ours"), paths.details_file(name))
    return replace(params, models=models, rows=rows), accuracies


def test_differences_are_those_of_what_was_kept(evaluated: Evaluated) -> None:
    params, accuracies = evaluated
    expected = [accuracies[row] - accuracies[baseline] for row, baseline in PAIRS]
    np.testing.assert_allclose(differences(params, COLUMN, PAIRS), expected, atol=1e-9)


def test_rows_that_differ_in_more_than_the_seed_are_refused(evaluated: Evaluated) -> None:
    params, _ = evaluated
    with pytest.raises(ValueError, match=r"t/fce, t/fce: their models have the seeds \[0, 0\], and nothing else"):
        differences(params, COLUMN, [PAIRS[0], PAIRS[0]])
    with pytest.raises(ValueError, match=r"t/fce, t/linear-1: their models have the seeds \[0, 1\], and differ in"):
        differences(params, COLUMN, [PAIRS[0], PAIRS[1][::-1]])
    other = replace(params, rows={**params.rows, "t/fce-1": replace(params.rows["t/fce-1"], seed=9)})
    with pytest.raises(ValueError, match=r"t/fce-1: seed is 9, and another row has 3; rows are compared on the same"):
        differences(other, COLUMN, PAIRS)
