"""What is written is there after a power cut: names, bytes and folders were synced, in that order."""

import os
from pathlib import Path

import pytest
from power_loss import cut_power, watched

from matchnet.files import atomic_write
from pipeline.data.nodes.upload import upload_file
from pipeline.data.raw.fetch_file import checksum_of, fetch_file
from pipeline.system.storage import location_of
from pipeline.system.swap import building_folder, swap_in
from pipeline.training.checkpoint import newest_state, save_state
from pipeline.training.run_log import RunLog, read_log
from pipeline.training.runs import only_driver

OF_TRAINING = {"optimizer": {"state": {}, "param_groups": []}, "task": {}}  # what a checkpoint has beside its weights

OF_TRAINING = {"optimizer": {"state": {}, "param_groups": []}, "task": {}}  # what a checkpoint has beside its weights


@pytest.fixture
def disk(tmp_path: Path) -> tuple[Path, Path]:
    """A folder, and where its fsyncs are kept."""
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk", tmp_path / "record"


def test_what_is_not_synced_is_lost(disk):
    folder, record = disk
    with watched(record):
        (folder / "a").write_text("whole")
        with open(folder / "b", "w") as file:
            file.write("synced")
            file.flush()
            os.fsync(file.fileno())
        os.fsync(descriptor := os.open(folder, os.O_RDONLY))
        os.close(descriptor)
        (folder / "c").write_text("later")
    cut_power(record, folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "", "b": "synced"}


def test_a_file_is_the_old_one_or_the_new_one(disk):
    folder, record = disk
    path = folder / "new" / "folders" / "file"
    with watched(record):
        with atomic_write(path) as file:
            file.write("one")
        with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
            file.write(f"{1 // 0}")
    cut_power(record, folder)
    assert path.read_text() == "one"
    with watched(record), atomic_write(path) as file:
        file.write("two")
    cut_power(record, folder)
    assert path.read_text() == "two" and os.listdir(path.parent) == ["file"]


def test_a_published_file_and_a_folder_that_was_swapped_in_are_there(disk, tmp_path):
    folder, record = disk
    (tmp_path / "origin").write_bytes(b"shard" * 1000)
    with watched(record):
        upload_file(tmp_path / "origin", location_of(folder / "shards" / "v1") / "a.tar")
        new = building_folder(folder / "data" / "shards")
        with atomic_write(new / "dataset.json") as file:
            file.write("{}")
        swap_in(new, folder / "data" / "shards")
    cut_power(record, folder)
    assert (folder / "shards" / "v1" / "a.tar").read_bytes() == b"shard" * 1000
    assert (folder / "data" / "shards" / "dataset.json").read_text() == "{}"


def test_a_checkpoint_is_there_with_the_log_of_its_steps(disk):
    folder, record = disk
    with watched(record):
        log = RunLog(folder, 0)
        for step in (10, 20, 30):
            log.write({"step": step, "loss": 1.0})
            log.sync()
            save_state(location_of(folder), {"step": step, "model": {}, **OF_TRAINING})
        log.write({"step": 31, "loss": 1.0})
    cut_power(record, folder)
    state = newest_state(location_of(folder))
    assert state is not None and state["step"] == 30
    assert [line["step"] for line in read_log(folder) if "loss" in line] == [10, 20, 30]


def test_a_run_and_a_raw_folder_are_there_with_the_first_file_in_them(disk):
    folder, record = disk
    with watched(record):
        with only_driver(folder / "data/runs/demo-0123456789ab") as _:
            save_state(location_of(folder / "data/runs/demo-0123456789ab"), {"step": 10, "model": {}, **OF_TRAINING})
        (folder / "mirror").write_bytes(b"archive")
        checksum = checksum_of(folder / "mirror", "sha256")
        fetch_file(str(folder / "mirror"), folder / "data/raw/letters/images.zip", checksum)
    cut_power(record, folder)
    state = newest_state(location_of(folder / "data/runs/demo-0123456789ab"))
    assert state is not None and state["step"] == 10
    assert (folder / "data/raw/letters/images.zip").read_bytes() == b"archive"
