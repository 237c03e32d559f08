"""The benchmark of large supports, as small as can be: every line, the table, the figure."""

import sys
from pathlib import Path

import pytest
from torch import Tensor

from benchmarks import supports


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supports, "QUERIES", 4)


@pytest.mark.parametrize("name", [*supports.TRAINING, *supports.QUERYING])
def test_every_line_prepares_a_call(name: str) -> None:
    prepare = (supports.TRAINING | supports.QUERYING)[name]
    if prepare is supports.query_index:
        pytest.importorskip("faiss")
    call, times = prepare(8, 4)
    call()
    assert times > 0


def test_queries_in_chunks_and_plain_have_the_same_answers() -> None:
    plain, chunks, nearest = (prepare(60, 16)[0]() for prepare in
                              (supports.query_plain, supports.query_chunks, supports.query_nearest))
    for found in (plain, chunks, nearest):
        assert isinstance(found, Tensor) and found.shape == (1, 4, 60)
    assert (plain.argmax(-1) == chunks.argmax(-1)).all() and (plain.argmax(-1) == nearest.argmax(-1)).all()


def test_a_fresh_process_measures_seconds_and_memory(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    found = supports.measure(supports.read_once, 500_000, 4)  # 122 MiB that are there before, and none that come
    assert 0 < found.seconds < 60 and found.mib < 60
    lines = {"plain step": {25: supports.Measured(0.5, 20.0)}, "limit: reading S x D once": {}}
    supports.table(lines, [25, 1000])
    assert "0.5 s, 20 MiB" in capsys.readouterr().out
    supports.draw(tmp_path / "a" / "supports.svg", lines, {"1-shot": {1: (0.8, 0.1), None: (0.9, 0.1)}})
    assert (tmp_path / "a" / "supports.svg").stat().st_size < 150_000


def test_a_process_that_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="exit of 25 items ended; was there too little memory"):
        supports.measure(sys.exit, 25, 4)
