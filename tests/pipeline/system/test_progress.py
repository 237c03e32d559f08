"""What long work shows: counts, units and a rate that leaves out earlier tries."""

import io

import pytest

from pipeline.system import progress
from pipeline.system.progress import Progress


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_line_has_count_rate_and_note(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training small", 2000, "steps") as shown:
        clock.now += 20
        shown.advance(1100, "loss 3.5436")
        clock.now += 5
        shown.advance(900)
    assert lines(capsys) == ["training small: 1,100/2,000 steps, 55.0 steps/s; loss 3.5436",
                             "training small: 2,000/2,000 steps, 80.0 steps/s"]


def test_addresses_are_shown_without_their_passwords(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress.say("stopped: s3://key:se/cret@bucket/run is gone")
    with Progress("reading http://ann:secret@host/a", 2, "files") as shown:
        clock.now += 20
        shown.advance(1, "from http://ann:secret@host/a")
    assert lines(capsys) == ["stopped: s3://bucket/run is gone",
                             "reading http://host/a: 1/2 files, 0.1 files/s; from http://host/a"]


def test_no_rate_before_the_first_step_nor_of_an_instant(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training small", 20, "steps") as shown:
        clock.now += 16
        shown.advance(0)
        clock.now += 0.5
        shown.advance(20)
    assert lines(capsys) == ["training small: 0/20 steps", "training small: 20/20 steps"]


def test_a_validation_leaves_the_rate_as_it_is(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training small", 20, "steps") as shown:
        clock.now += 5
        shown.advance(10)
        clock.now += 5
        shown.advance(0, "validation 98.00% ± 0.10%")
        shown.advance(10)
    assert lines(capsys)[0] == "training small: 10/20 steps, 1.0 steps/s; validation 98.00% ± 0.10%"


def test_the_end_is_said_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training small", 20, "steps") as shown:
        clock.now += 10
        shown.advance(20)
        clock.now += 1
    assert lines(capsys) == ["training small: 20/20 steps, 2.0 steps/s"]


@pytest.mark.parametrize(("total", "done", "said"), [
    (1, 1, "1/1 file"), (2, 1, "1/2 files"), (0, 1, "1 file"), (0, 1500, "1,500 files")])
def test_one_is_singular_and_an_unknown_total_is_left_out(
        clock: Clock, capsys: pytest.CaptureFixture[str], total: int, done: int, said: str) -> None:
    with Progress("listing photos.zip", total, "files") as shown:
        shown.advance(done)
    assert lines(capsys) == [f"listing photos.zip: {said}"]


def test_bytes_are_mib(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("copying images.zip", 8 * 2**20, "B") as shown:
        clock.now += 4
        shown.advance(8 * 2**20)
    assert lines(capsys) == ["copying images.zip: 8.0/8.0 MiB, 2.0 MiB/s"]


@pytest.mark.parametrize("again_at", [900, 400])
def test_the_rate_is_that_of_the_steps_since_a_checkpoint(
        clock: Clock, capsys: pytest.CaptureFixture[str], again_at: int) -> None:
    """A run that was resumed at step 900, or whose worker was lost at 900 and began again at step 400."""
    with Progress("training small", 1000, "steps", done=900) as shown:
        clock.now += 9
        shown.advance(again_at - 900)
        clock.now += 10
        shown.advance(100)
    assert lines(capsys)[0] == f"training small: {again_at + 100:,}/1,000 steps, 10.0 steps/s"


def test_a_bar_counts_no_step_of_an_earlier_try(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    with Progress("training small", 1000, "steps", done=900) as shown:
        assert shown.bar is not None
        shown.advance(-500, "goes on from step 400")
        since = shown.bar.format_dict
        assert (since["n"], since["initial"]) == (400, 400)
        shown.advance(100)
        assert shown.bar.n == 500
    assert "500/1.00k" in terminal.getvalue()
