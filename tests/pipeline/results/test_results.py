"""metrics.json, details.json, curves and pictures of episodes: what is written is read back, what is wrong is named."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.results.curve_svg import averaged, curve_svg, log_ticks
from pipeline.results.curves import CurvePoint, curve_from_records, read_curve, write_curve
from pipeline.results.episode_grid import draw_episodes
from pipeline.results.metrics import (
    ColumnResult,
    DatasetUsed,
    Details,
    Machine,
    MetricsError,
    ModelUsed,
    SecondsSpent,
    format_accuracy,
    machine_facts,
    read_details,
    write_details,
    write_metrics,
)
from pipeline.results.shown_episode import ShownEpisode, way_name

DETAILS = Details(
    columns={"5w1s": ColumnResult(99.3149, 0.03, 10000, 5, 423), "20w1s": ColumnResult(97.7, 0.1, 10000, 5)},
    seconds=SecondsSpent(1012.3, 14.2),
    machine=Machine("a processor", 2, None, "2.13.0"),
    dataset=DatasetUsed("omniglot", "vinyals", "test", "ab" * 32),
    model=ModelUsed("omniglot/conv4", 20000, 111936, 0))
OF_WORDS = replace(DETAILS, perplexity=114.5678)


@pytest.mark.parametrize("details", [DETAILS, OF_WORDS])
def test_details_are_read_back_as_written(tmp_path: Path, details: Details) -> None:
    write_details(tmp_path / "row" / "details.json", details)
    assert read_details(tmp_path / "row" / "details.json") == details
    assert list(tmp_path.rglob("*.tmp")) == []


def test_the_details_have_the_agreed_fields(tmp_path: Path) -> None:
    write_details(tmp_path / "details.json", DETAILS)
    content = json.loads((tmp_path / "details.json").read_text())
    assert list(content) == ["columns", "seconds", "machine", "dataset", "model"]
    assert content["columns"]["5w1s"] == {"accuracy": 99.3149, "ci95": 0.03, "episodes": 10000,
                                          "queries_per_way": 5, "num_classes": 423}
    assert content["seconds"] == {"train": 1012.3, "evaluate": 14.2}


@pytest.mark.parametrize(("details", "expected"), [
    (DETAILS, {"5w1s": 99.31, "20w1s": 97.7}),
    (OF_WORDS, {"5w1s": 99.31, "20w1s": 97.7, "perplexity": 114.57})])
def test_the_metrics_are_flat_and_have_two_decimals(tmp_path: Path, details: Details, expected: dict) -> None:
    """What `dvc metrics show` prints in a line a row."""
    write_metrics(tmp_path / "metrics.json", details)
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found == expected and list(found) == list(expected)


def test_fractions_become_percent() -> None:
    result = ColumnResult.from_fractions(0.993125, 0.00031, 600, 15, 423)
    assert result == ColumnResult(99.3125, 0.031, 600, 15, 423)


@pytest.mark.parametrize(("path", "value", "field", "rule"), [
    (("columns", "5w1s", "accuracy"), "high", "columns.5w1s.accuracy", "valid number (found 'high')"),
    (("columns", "5w1s", "accuracy"), 100.1, "columns.5w1s.accuracy", "less than or equal to 100"),
    (("columns", "5w1s", "accuracy"), float("nan"), "columns.5w1s.accuracy", "finite number"),
    (("columns", "5w1s", "episodes"), 0, "columns.5w1s.episodes", "greater than 0"),
    (("columns", "5w1s", "paper"), 98.1, "columns.5w1s.paper", "found 98.1"),
    (("columns",), {}, "columns", "at least 1 item"),
    (("seconds", "train"), -1.0, "seconds.train", "greater than or equal to 0 (found -1.0)"),
    (("machine", "cores"), "2", "machine.cores", "valid integer (found '2')"),
    (("model", "colour"), "red", "model.colour", "found 'red'"),
    (("perplexity",), 0.5, "perplexity", "greater than or equal to 1 (found 0.5)"),
])
def test_malformed_details_are_named(tmp_path: Path, path: tuple[str, ...], value: object, field: str,
                                     rule: str) -> None:
    file = tmp_path / "omniglot" / "some_row.json"
    write_details(file, DETAILS)
    content = json.loads(file.read_text())
    place = content
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    file.write_text(json.dumps(content))
    with pytest.raises(MetricsError) as error:
        read_details(file)
    for part in (f"{file}: {field}: ", rule, "make it again with the stage evaluate@some_row of omniglot"):
        assert part in str(error.value)


def test_missing_field_and_broken_json_are_named(tmp_path: Path) -> None:
    file = tmp_path / "details.json"
    file.write_text('{"columns": {}}')
    with pytest.raises(MetricsError, match=r"details\.json: columns"):
        read_details(file)
    file.write_text('{"columns": ')
    with pytest.raises(MetricsError, match=r"details\.json: the whole file: Invalid JSON"):
        read_details(file)


@pytest.mark.parametrize(("write", "field"), [(write_details, r"columns\.5w1s\.accuracy"), (write_metrics, "5w1s")])
def test_impossible_figures_are_refused_and_the_old_file_stays(
        tmp_path: Path, write: Callable[[Path, Details], None], field: str) -> None:
    file = tmp_path / "figures.json"
    write(file, DETAILS)
    before = file.read_bytes()
    wrong = replace(DETAILS, columns={"5w1s": ColumnResult(float("nan"), 0.1, 10, 5)})
    with pytest.raises(MetricsError, match=rf"figures\.json: {field}: .*finite number"):
        write(file, wrong)
    assert file.read_bytes() == before


def test_machine_facts_name_this_machine() -> None:
    facts = machine_facts()
    assert facts.cpu and facts.cores >= 1
    assert facts.torch == torch.__version__
    assert (facts.gpu is not None) == torch.cuda.is_available()


@pytest.mark.parametrize(("accuracy", "ci95", "text"), [
    (99.312, 0.14, "99.3 ± 0.1"),
    (41.7, 1.25, "41.7 ± 1.2"),
    (99.312, 0.03, "99.31 ± 0.03"),  # one decimal would claim ± 0.0
    (100.0, 0.0, "100.0 ± 0.0"),
])
def test_accuracy_format(accuracy: float, ci95: float, text: str) -> None:
    assert format_accuracy(accuracy, ci95) == text


def test_records_merge_by_step_in_percent_and_the_later_one_holds() -> None:
    points = curve_from_records([
        {"step": 10, "loss": 2.0, "accuracy": 0.25, "images_per_second": 9.0},
        {"step": 20, "loss": 1.5, "accuracy": 0.5},
        {"step": 10, "loss": 1.9, "accuracy": 0.3},  # ran again after a restart
        {"step": 20, "valid_accuracy": 0.75, "valid_ci95": 0.01, "valid_episodes": 100}])
    assert [(p.step, p.loss, p.accuracy, p.valid_accuracy, p.valid_ci95) for p in points] == [
        (10, 1.9, 30.0, None, None), (20, 1.5, 50.0, 75.0, 1.0)]


def test_curve_is_read_back_as_written(tmp_path: Path) -> None:
    points = [CurvePoint(10, 2.5, 25.0, 0.001, None, None, 200.0), CurvePoint(20, valid_accuracy=50.0)]
    write_curve(tmp_path / "model.csv", points)
    assert read_curve(tmp_path / "model.csv") == points
    header = (tmp_path / "model.csv").read_text().splitlines()[0]
    assert header == "step,loss,accuracy,learning_rate,valid_accuracy,valid_ci95,episodes_per_second"


def test_a_curve_of_perplexity_has_a_column_more(tmp_path: Path) -> None:
    points = [CurvePoint(10, 5.5, learning_rate=0.001), CurvePoint(20, valid_perplexity=140.25)]
    write_curve(tmp_path / "model.csv", points)
    assert read_curve(tmp_path / "model.csv") == points
    assert (tmp_path / "model.csv").read_text().splitlines()[0].endswith(",episodes_per_second,valid_perplexity")
    drawn = curve_svg(points, "c0", "model")
    assert drawn and ">Perplexity" in drawn and ">Accuracy" not in drawn


def test_malformed_curve_is_named(tmp_path: Path) -> None:
    file = tmp_path / "omniglot/model.csv"
    write_curve(file, [CurvePoint(10, 2.5)])
    file.write_text(file.read_text().replace("2.5", "two"))
    with pytest.raises(ValueError, match=r"model\.csv, line 2, column loss: 'two' is not a number"):
        read_curve(file)
    file.write_text("step,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"columns are \['step', 'loss'\], expected .*; make it again "
                                         "with the stage train@model of omniglot"):
        read_curve(file)


def curve(num_steps: int) -> list[CurvePoint]:
    return [CurvePoint(step, loss=3.0 / step, accuracy=90.0, valid_accuracy=80.0 if step % 5 == 0 else None,
                       valid_ci95=1.0) for step in range(1, num_steps + 1)]


@pytest.mark.parametrize("points", [
    curve(1), curve(1000), [CurvePoint(0, accuracy=0.0)], [CurvePoint(5, valid_accuracy=100.0)],
    [CurvePoint(3, loss=0.7)], [CurvePoint(4, loss=6.0), CurvePoint(5, valid_perplexity=300.0)]])
def test_curve_svg_is_well_formed_and_the_same_twice(points: list[CurvePoint]) -> None:
    drawn = curve_svg(points, "c0", 'a "model" <b>')
    assert drawn and drawn == curve_svg(points, "c0", 'a "model" <b>')
    assert "nan" not in drawn and " inf" not in drawn
    assert ElementTree.fromstring(drawn).attrib["aria-label"].startswith('a "model" <b>. ')


@pytest.mark.parametrize("points", [[], [CurvePoint(0)], [CurvePoint(0), CurvePoint(9, learning_rate=0.1)]])
def test_a_curve_of_nothing_is_not_drawn(points: list[CurvePoint]) -> None:
    assert curve_svg(points, "c0", "model") is None


def test_figures_have_the_pages_colours_their_own_ids_and_text_as_text() -> None:
    first, second = (curve_svg(curve(50), name, "model") or "" for name in ("c0", "c1"))
    ids = [re.findall(r'\bid="([^"]+)"', drawn) for drawn in (first, second)]
    assert ids[0] and not set(ids[0]) & set(ids[1]) and len(set(ids[0])) == len(ids[0])
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', first)) <= set(ids[0])
    assert "var(--ours)" in first and "#0a0b0" not in first and "<style" not in first and "font-family" not in first
    assert ">Training loss, nats (log scale)</text>" in first and ">Accuracy, %</text>" in first
    assert "Date" not in first and "<metadata" not in first


def test_averaged_keeps_the_mean_and_the_limit() -> None:
    series = [(float(x), float(x % 7)) for x in range(1000)]
    short = averaged(series, most=50)
    assert len(short) == 50
    assert sum(y for _, y in short) / 50 == pytest.approx(sum(y for _, y in series) / 1000)


@pytest.mark.parametrize(("low", "high"), [(0.2, 3.0), (3.45, 3.85), (1e-5, 1e5), (90.0, 220.0), (0.99, 1.01)])
def test_ticks_of_a_logarithmic_axis_are_few_and_inside(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 7 and ticks == sorted(ticks) and low <= ticks[0] and ticks[-1] <= high


def episode(seed: int, num_ways: int = 5, num_shots: int = 1, channels: int = 1, side: int = 28,
            wrong: tuple[int, ...] = ()) -> ShownEpisode:
    """Two queries a way; the queries in `wrong` get the next way."""
    generator = torch.Generator().manual_seed(seed)
    def images(count: int) -> torch.Tensor:
        return torch.randint(256, (count, channels, side, side), dtype=torch.uint8, generator=generator)
    way_Q = torch.arange(num_ways).repeat_interleave(2)
    said_Q = torch.tensor([(way + (query in wrong)) % num_ways for query, way in enumerate(way_Q.tolist())])
    log_probs_QN = torch.log_softmax(5.0 * torch.nn.functional.one_hot(said_Q, num_ways).float(), -1)
    return ShownEpisode(images(num_ways * num_shots), torch.arange(num_ways).repeat(num_shots),
                        images(2 * num_ways), way_Q, log_probs_QN, [f"class{way}" for way in range(num_ways)])


@pytest.mark.parametrize(("num_ways", "num_shots", "channels", "side"),
                         [(5, 1, 1, 28), (5, 5, 1, 28), (20, 1, 1, 28), (5, 1, 3, 84), (2, 1, 3, 224)])
def test_episode_picture_is_drawn_the_same_twice(tmp_path: Path, num_ways: int, num_shots: int,
                                                 channels: int, side: int) -> None:
    episodes = [episode(seed, num_ways, num_shots, channels, side) for seed in range(5)]
    episodes.append(episode(5, num_ways, num_shots, channels, side, wrong=(0,)))
    draw_episodes(tmp_path / "a.png", episodes)
    draw_episodes(tmp_path / "b.png", episodes)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").width > 300


def has_colour(path: Path, red: int, green: int, blue: int) -> bool:
    distance = np.abs(np.asarray(Image.open(path).convert("RGB"), dtype=int) - (red, green, blue)).sum(-1)
    return bool((distance < 24).sum() > 200)


def test_frames_tell_right_from_wrong(tmp_path: Path) -> None:
    draw_episodes(tmp_path / "right.png", [episode(0)])
    draw_episodes(tmp_path / "wrong.png", [episode(0, wrong=(0, 1))])
    assert has_colour(tmp_path / "right.png", 0x1A, 0x7F, 0x37)
    assert not has_colour(tmp_path / "right.png", 0xC9, 0x22, 0x2E)
    assert has_colour(tmp_path / "wrong.png", 0xC9, 0x22, 0x2E)


def test_first_episodes_are_shown_whatever_their_outcome(tmp_path: Path) -> None:
    """Errors further back add a part below; they do not change the part above."""
    plain = [episode(seed) for seed in range(6)]
    draw_episodes(tmp_path / "plain.png", plain, num_first=2)
    draw_episodes(tmp_path / "errors.png", [*plain[:5], episode(5, wrong=(3,))], num_first=2)
    first, both = (np.asarray(Image.open(tmp_path / name).convert("L"), dtype=int)
                   for name in ("plain.png", "errors.png"))
    assert len(both) > len(first)
    top = slice(0, len(first) - 20), slice(0, 300)
    assert np.abs(first[top] - both[top]).max() < 16  # each picture has its own palette


def test_way_names() -> None:
    assert [way_name(way) for way in (0, 4, 25, 26)] == ["A", "E", "Z", "26"]
