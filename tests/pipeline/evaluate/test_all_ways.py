"""Columns in which every class is a way: the episodes of that number of ways, on one machine and on Ray's workers."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from test_experiment import CLASSIFIER, ROW, run

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodes import ALL_WAYS, ClassRows, EpisodeSpec, sample_episodes
from matchnet.evaluation import EpisodeResults, EpisodeStream, episode_batch_size, episode_results
from matchnet.methods import build_method
from matchnet.methods.mann import MannSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.pixels import PixelsSpec
from matchnet.running_attention import MOST_SCORES
from matchnet.store import SomeRows
from pipeline.data.shards.folder import ShardFolder
from pipeline.evaluate.on_workers import RowEpisodes, Workers, episodes_on
from pipeline.params.sections import task_of
from pipeline.results.columns import column_order, column_title

CLASSES, OF_A_CLASS, D = 1000, 1000, 4


def test_a_column_of_all_classes_is_the_one_of_that_number_of_ways(small_shards: Path) -> None:
    ways = len(ShardFolder(small_shards).manifest.splits["random"]["test"])
    assert ways > 3
    row = dataclasses.replace(ROW, columns=("all-1s2q", "3w1s", f"{ways}w1s2q", "all-5s"))
    measured = run(small_shards, row, ["a"], PixelsSpec())
    found, expected = (measured.episodes[column] for column in ("all-1s2q", f"{ways}w1s2q"))
    assert found.accuracy_E.tolist() == expected.accuracy_E.tolist() and len(set(found.accuracy_E)) > 2
    assert found.most_one_way_E.tolist() == expected.most_one_way_E.tolist()
    columns = measured.details.columns
    assert columns["all-1s2q"] == columns[f"{ways}w1s2q"]
    assert (columns["all-5s"].num_classes, columns["all-5s"].queries_per_way) == (ways, 5)
    assert len(measured.shown[0].way_names) == 3  # a picture of few ways, where the row has such a column


def test_pictures_of_all_classes_are_of_fewer_episodes(small_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.evaluate.row.SHOWN_SAMPLES", 60)
    row = dataclasses.replace(ROW, columns=("all-1s2q",))
    ways = len(ShardFolder(small_shards).manifest.splits["random"]["test"])
    assert len(run(small_shards, row, ["a"], PixelsSpec()).shown) == max(2, 60 // (3 * ways)) < 6


def test_a_row_may_attend_to_the_nearest_items(small_shards: Path) -> None:
    """To one: the nearest neighbour's class. To as many as there are: as ever."""
    accuracies, classifier = {}, build_method(CLASSIFIER, (1, 16, 16), 1)
    for nearest in (None, 1, 15):
        row = dataclasses.replace(ROW, columns=("3w5s2q",), episodes=30, nearest=nearest)
        measured = run(small_shards, row, ["a"], CLASSIFIER, classifier)
        accuracies[nearest] = measured.episodes["3w5s2q"].accuracy_E.tolist()
    assert accuracies[None] == accuracies[15] != accuracies[1]
    mann = MannSpec(image_size=14, num_slots=8)
    method = build_method(mann, (1, 16, 16), 1)
    with pytest.raises(ValueError, match="nearest is 3, and a Mann as model m has it knows no attention; write null"):
        run(small_shards, dataclasses.replace(ROW, nearest=3), ["a"], mann, method)


@pytest.mark.parametrize("wrong", [{"nearest": 0}, {"nearest": 3, "oracle": True}])
def test_nearest_is_a_number_of_items(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"nearest is {wrong['nearest']}; it must be at least 1, with"):
        dataclasses.replace(ROW, **wrong)


def test_names_titles_and_order_of_columns_of_all_classes() -> None:
    assert task_of("all-5s", 5) == EpisodeSpec(ALL_WAYS, 5, 5) and task_of("all-1s4q", 5) == EpisodeSpec(ALL_WAYS, 1, 4)
    assert task_of("all-5s", 5).column == "all-5s" and task_of("all-5s", 5).among(423) == EpisodeSpec(423, 5, 5)
    assert EpisodeSpec(5, 1, 5).among(423) == EpisodeSpec(5, 1, 5)
    assert column_title("all-1s4q") == "all-way 1-shot, 4 queries a way" and column_title("all-5s") == "all-way 5-shot"
    columns = ["5w1s", "20w5s", "all-1s", "all-5s", "5w1s4q", "fine-5w1s"]
    assert sorted(set(columns), key=column_order) == columns
    for name in ("all-0s", "fine-all-1s", "allw1s", "all1s", "all-1s0q"):
        with pytest.raises(ValueError, match="says no task"):
            task_of(name, 5)


def test_how_many_all_classes_are_is_known_before_episodes_are_drawn() -> None:
    classes = ClassRows.from_class_ids(np.repeat(np.arange(4), 3))
    with pytest.raises(ValueError, match="num_ways is 0, all classes, and there are 4; write how many"):
        sample_episodes(0, [0], EpisodeSpec(ALL_WAYS, 1, 1), classes)


@pytest.fixture(scope="module")
def million() -> tuple[SomeRows, np.ndarray, ClassRows]:
    """A million embeddings of 1,000 classes, spread about their classes' means so that some are taken for others."""
    generator = torch.Generator().manual_seed(0)
    mean_C = torch.randn(CLASSES, 1, D, generator=generator)
    feature_RD = mean_C + 0.2 * torch.randn(CLASSES, OF_A_CLASS, D, generator=generator)
    rows = np.arange(CLASSES * OF_A_CLASS)
    return (SomeRows(feature_RD.view(-1, 1, D), torch.from_numpy(rows), len(rows)), rows,
            ClassRows.from_class_ids(rows // OF_A_CLASS))


SPECS = {"all-1s": EpisodeSpec(CLASSES, 1, 1), "all-5s4q": EpisodeSpec(CLASSES, 5, 4)}
METHOD = build_method(MatchingNetworkSpec(encoder=Conv4Spec(num_filters=4, num_blocks=3)), (1, 8, 8), 1)


def results_of_one_process(features: SomeRows, classes: ClassRows) -> dict[str, EpisodeResults]:
    return {column: episode_results(METHOD, features, EpisodeStream(classes, spec, seed=7), range(2))
            for column, spec in SPECS.items()}


def test_1000_ways_of_a_million_embeddings(million: tuple[SomeRows, np.ndarray, ClassRows]) -> None:
    """Against all scores in float64."""
    features, _, classes = million
    assert 4000 * 5000 > MOST_SCORES > 1000 * 1000  # one column is in chunks
    assert [episode_batch_size(features, spec) for spec in SPECS.values()] == [16, 1]
    episodes = sample_episodes(7, [1], SPECS["all-5s4q"], classes)
    support_SD, query_QD = (torch.nn.functional.normalize(features.gather(row_E[0]).squeeze(1).double())
                            for row_E in (episodes.support_ES, episodes.query_EQ))
    weight_QS = (query_QD @ support_SD.T * 10).exp()
    way_QN = torch.zeros(4000, CLASSES).double().index_add_(1, episodes.support_way_ES[0], weight_QS)
    accuracy = (way_QN.argmax(-1) == episodes.query_way_EQ[0]).double().mean()
    assert 0.05 < accuracy < 0.95
    found = results_of_one_process(features, classes)["all-5s4q"].accuracy_E[1]
    assert found == pytest.approx(float(accuracy), abs=2 / 4000)  # ties of rounding


def test_rays_workers_share_1000_ways_to_the_same_bits(
        million: tuple[SomeRows, np.ndarray, ClassRows], ray_session: None) -> None:
    from pipeline.workers.ray_tasks import run_tasks

    features, rows, classes = million
    alone = results_of_one_process(features, classes)
    workers = Workers(partial(run_tasks, at_once=2), "", None, device="cpu", threads=1)
    streams = {column: EpisodeStream(classes, spec, seed=7) for column, spec in SPECS.items()}
    wanted = RowEpisodes(streams, rows, count=2)
    shared = episodes_on(workers, METHOD, features, wanted)
    for column in SPECS:
        assert shared[column].accuracy_E.tolist() == alone[column].accuracy_E.tolist()
        assert shared[column].most_one_way_E.tolist() == alone[column].most_one_way_E.tolist()
