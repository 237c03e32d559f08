"""The log of a run at an address: its newest copy is brought, also while the run goes on, and nothing else is."""

import time
from pathlib import Path

import pytest

from pipeline.system.storage import location_of
from pipeline.training import log_copies
from pipeline.training.log_copies import bring_logs, following, log_folder
from pipeline.training.run_log import LOG_FILE, log_file
from pipeline.training.runs import location_of_run


def checkpoint(run: Path, step: int, log: str) -> None:
    """Its files appear whole, as uploads do."""
    folder, new = run / f"step{step:08d}", run / "new"
    new.mkdir(parents=True)
    (new / "state.pt").touch()
    (new / LOG_FILE).write_text(log)
    new.rename(folder)


def test_the_newest_copy_is_brought(tmp_path: Path) -> None:
    run, folder = location_of(f"file://{tmp_path}/run"), tmp_path / "here"
    bring_logs(run, folder)
    assert not folder.exists(), "a run without a checkpoint has no copy"
    checkpoint(tmp_path / "run", 900, "early\n")
    checkpoint(tmp_path / "run", 1000, "late\n")
    bring_logs(run, folder)
    assert (folder / LOG_FILE).read_text() == "late\n"


def test_it_is_followed_while_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_copies, "SECONDS_BETWEEN_LISTINGS", 0.01)
    with following(location_of(f"file://{tmp_path}/run"), tmp_path / "here"):
        for step, log in ((10, "one\n"), (20, "two\n")):
            checkpoint(tmp_path / "run", step, log)
            end = time.monotonic() + 20
            while not (path := tmp_path / "here" / LOG_FILE).exists() or path.read_text() != log:
                assert time.monotonic() < end
                time.sleep(0.01)


def test_the_logs_of_all_workers_are_brought(tmp_path: Path) -> None:
    run, folder = location_of(f"file://{tmp_path}/run"), tmp_path / "here"
    checkpoint(tmp_path / "run", 10, "first\n")
    (tmp_path / "run" / "step00000010" / log_file(1)).write_text("second\n")
    bring_logs(run, folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {LOG_FILE: "first\n", log_file(1): "second\n"}


def test_where_a_log_can_be_appended_to_it_is_brought_at_the_end(tmp_path: Path) -> None:
    """On this machine it lies where it is wanted; on a path that all nodes see it is copied once."""
    folder = tmp_path / "runs" / "small-0123456789ab"
    assert log_folder(location_of_run(folder, None)) == folder
    bring_logs(location_of_run(folder, None), folder)
    assert not folder.exists()
    on_path, at_address = location_of_run(folder, f"{tmp_path}/nfs"), location_of_run(folder, f"file://{tmp_path}/far")
    checkout = (tmp_path / "runs" / "checkout").read_text()
    run = tmp_path / "nfs" / "runs" / checkout / "small-0123456789ab"
    assert log_folder(on_path) == run
    assert at_address.address == f"file://{tmp_path}/far/runs/{checkout}/{folder.name}"
    assert log_folder(at_address) is None
    run.mkdir(parents=True)
    (run / LOG_FILE).write_text("first\n")
    (run / log_file(1)).write_text("second\n")
    bring_logs(on_path, folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {LOG_FILE: "first\n", log_file(1): "second\n"}
