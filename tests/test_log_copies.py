"""The log of a run at an address: its newest copy is brought, also while the run goes on, and nothing else is."""

import time
from pathlib import Path

import pytest

from pipeline.storage import place_of
from pipeline.training import log_copies
from pipeline.training.log_copies import bring_log, following, log_folder
from pipeline.training.run_log import LOG_FILE
from pipeline.training.runs import place_of_run


def checkpoint(run: Path, step: int, log: str) -> None:
    folder = run / f"step{step:08d}"
    folder.mkdir(parents=True)
    (folder / "state.pt").touch()
    (folder / LOG_FILE).write_text(log)


def test_the_newest_copy_is_brought(tmp_path: Path) -> None:
    run, folder = place_of(f"file://{tmp_path}/run"), tmp_path / "here"
    bring_log(run, folder)
    assert not folder.exists(), "a run without a checkpoint has no copy"
    checkpoint(tmp_path / "run", 900, "early\n")
    checkpoint(tmp_path / "run", 1000, "late\n")
    bring_log(run, folder)
    assert (folder / LOG_FILE).read_text() == "late\n"


def test_it_is_followed_while_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_copies, "SECONDS_BETWEEN_LISTINGS", 0.01)
    with following(place_of(f"file://{tmp_path}/run"), tmp_path / "here"):
        for step, log in ((10, "one\n"), (20, "two\n")):
            checkpoint(tmp_path / "run", step, log)
            end = time.monotonic() + 20
            while not (path := tmp_path / "here" / LOG_FILE).exists() or path.read_text() != log:
                assert time.monotonic() < end
                time.sleep(0.01)


def test_where_a_log_can_be_appended_to_nothing_is_copied(tmp_path: Path) -> None:
    """On this machine, and on a path that all nodes see."""
    folder = tmp_path / "runs" / "small-0123456789ab"
    assert log_folder(place_of_run(folder, None)) == folder
    on_path = place_of_run(folder, f"{tmp_path}/nfs")
    assert log_folder(on_path) == tmp_path / "nfs" / "runs" / "small-0123456789ab"
    at_address = place_of_run(folder, f"file://{tmp_path}/far")
    assert at_address.address == f"file://{tmp_path}/far/runs/small-0123456789ab" and log_folder(at_address) is None
    checkpoint(tmp_path / "nfs" / "runs" / "small-0123456789ab", 10, "log\n")
    bring_log(on_path, folder)
    assert not folder.exists()
