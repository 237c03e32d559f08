"""What the logs of the workers add up to, its file, and how the report shows it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import paths
from pipeline.results.curves import CurvePoint, write_curve
from pipeline.results.report import write_report
from pipeline.results.speed import NOT_MEASURED, Speed, SpeedError, read_speed, speed_from_logs, write_speed
from pipeline.results.tables import Table


def begin(step: int, node: str) -> dict[str, Any]:
    return {"step": step, "process": 7, "node": node, "workers": 2, "attempt": 1}


def line(step: int, speed: float, waiting: float, rss: float = 500.0, gpu: float | None = None) -> dict[str, Any]:
    return {"step": step, "loss": 1.0, "steps_per_second": speed, "data_wait_share": waiting,
            "images_per_second": 30 * speed, "worker_images_per_second": 10 * speed,
            "episodes_per_second": 3 * speed, "worker_episodes_per_second": speed,
            "peak_rss_mib": rss, "peak_gpu_mib": gpu}


LOGS = {
    # 10 steps in 5 s, 20 in 20 s; then lost: step 30 to 35 run twice, 5 steps in 10 s
    0: [begin(0, "b"), line(10, 2.0, 0.5), {"step": 10, "valid_accuracy": 0.5}, line(30, 1.0, 0.1, rss=620.0),
        begin(25, "b"), line(30, 0.5, 0.0, rss=300.0, gpu=90.0), {"step": 30, "error": "no"}],
    1: [begin(0, "b"), line(10, 2.0, 0.0)],
    2: [begin(0, "a"), line(10, 2.0, 0.0)],
    3: [begin(0, "a")],  # killed before it had anything to say
}


def test_means_are_over_time_and_peaks_over_all() -> None:
    [first, second, third] = speed_from_logs(LOGS).workers
    assert (first.rank, first.node, second.node, third.rank, third.node) == (0, 0, 0, 2, 1)
    assert first.steps_per_second == pytest.approx((10 + 20 + 5) / (5 + 20 + 10))
    assert first.data_wait_share == pytest.approx((0.5 * 5 + 0.1 * 20) / 35, rel=1e-5)
    assert first.per_second == pytest.approx({"episodes": 1.0, "images": 10.0})
    assert (first.peak_rss_mib, first.peak_gpu_mib, second.peak_gpu_mib) == (620.0, 90.0, None)


def test_of_a_run_whose_workers_came_and_went_those_of_the_last_attempts_size_count() -> None:
    one = begin(10, "b") | {"workers": 1}
    logs = {0: [begin(0, "b"), line(10, 9.0, 0.0), one, line(30, 2.0, 0.5)], 1: [begin(0, "a"), line(10, 9.0, 0.0)]}
    [worker] = speed_from_logs(logs).workers
    assert (worker.rank, worker.steps_per_second, worker.data_wait_share) == (0, 2.0, 0.5)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "m.speed.json"
    for speed in (speed_from_logs(LOGS), NOT_MEASURED):
        write_speed(path, speed)
        assert read_speed(path) == speed


def test_logs_without_speeds_are_no_workers() -> None:
    assert speed_from_logs({}) == speed_from_logs({0: [begin(0, "a"), {"step": 0, "error": "no"}]}) == NOT_MEASURED


@pytest.mark.parametrize(("field", "value", "message"), [
    ("data_wait_share", 1.5, r"workers\.0\.data_wait_share: Input should be less than or equal to 1 \(found 1\.5\)"),
    ("rank", -1, r"workers\.0\.rank: .* \(found -1\)"),
    ("colour", "red", r"workers\.0\.colour: Unexpected keyword argument"),
])
def test_a_file_that_is_none_is_refused(tmp_path: Path, field: str, value: object, message: str) -> None:
    path = tmp_path / "m.speed.json"
    write_speed(path, speed_from_logs(LOGS))
    content = json.loads(path.read_text())
    content["workers"][0][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(SpeedError, match=r"m\.speed\.json: " + message):
        read_speed(path)


@pytest.fixture
def with_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository's root where a model has been trained."""
    monkeypatch.chdir(tmp_path)
    write_curve(paths.curve_file("t/net"), [CurvePoint(10, 1.0, 50.0, 0.1)])


def report_of(speed: Speed) -> tuple[str, str]:
    pages = [paths.report_file("t", kind) for kind in ("md", "html")]
    write_speed(paths.speed_file("t/net"), speed)
    write_report(Table("t", "T", "", False, []), {"t/net": {}}, [], *pages)
    return pages[0].read_text(), pages[1].read_text()


def test_the_report_has_a_line_of_all_workers_and_one_of_each(with_curve: None) -> None:
    markdown, page = report_of(speed_from_logs(LOGS))
    facts = ("1 steps/s · 5 episodes/s · 50 images/s · 4% waiting for data · 3 workers on 2 nodes, up to 620 MiB and "
             "90 MiB of the GPU each")
    for text in (markdown, page):
        assert f"Training: {facts}" in text
    assert "| 0 | 0 | 1 | 1 | 10 | 12.9% | 620 | 90 |" in markdown and "| 2 | 1 | 2 |" in markdown
    assert page.count("<td>") == 3 * 7 and page.count('<th scope="row">') == 3 and "<td>12.9%</td>" in page


def test_the_report_of_one_worker_has_no_table(with_curve: None) -> None:
    markdown, page = report_of(speed_from_logs({0: LOGS[1]}))
    for text in (markdown, page):
        assert "2 steps/s · 2 episodes/s · 20 images/s · 0% waiting for data · 1 worker, up to 500 MiB" in text
        assert "GPU memory" not in text and "Each worker" not in text


def test_the_report_of_what_was_not_measured_says_nothing(with_curve: None) -> None:
    assert all("t/net" in text and "steps/s" not in text for text in report_of(NOT_MEASURED))
