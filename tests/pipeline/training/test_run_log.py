"""The log of a training run survives kills, and knows which attempt a line is of."""

import errno
import os
import socket
import tempfile
import time
from types import SimpleNamespace

import pytest

from matchnet.methods.pixels import PixelsSpec
from pipeline.data.shards.folder import ShardFolder
from pipeline.params import ComputeParams, ModelParams
from pipeline.system.progress import Progress, lines_to, say
from pipeline.system.storage import location_of
from pipeline.training.driver import _later_state
from pipeline.training.errors import TrainingError, full_disk
from pipeline.training.ray_training import _explained
from pipeline.training.run_log import (
    LOG_FILE,
    NewLines,
    RunLog,
    _note,
    log_file,
    next_attempt,
    progress_of,
    read_log,
    read_worker_logs,
    seconds_spent,
)
from pipeline.training.runs import RunFiles, RunInUseError, forget_runs, only_driver, run_folder
from pipeline.workers.processes import worker_killed


def test_each_attempt_has_its_number_and_its_first_step(tmp_path):
    RunLog(tmp_path, 0).write({"step": 10, "loss": 1.0})
    RunLog(tmp_path, 5).write({"step": 10, "loss": 1.0})
    assert [(line["attempt"], line["step"]) for line in read_log(tmp_path)] == [(1, 0), (1, 10), (2, 5), (2, 10)]


def test_a_line_cut_short_is_left_out_and_spoils_no_other(tmp_path):
    log = RunLog(tmp_path, 0)
    with open(tmp_path / LOG_FILE, "a") as file:
        file.write('{"step": 3, "lo')
    log.write({"step": 4})
    assert [line["step"] for line in read_log(tmp_path)] == [0, 4]


def test_a_log_on_a_full_disk_names_its_file_and_what_to_do(tmp_path):
    (tmp_path / LOG_FILE).symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"{tmp_path}/log\.jsonl: No space left on device while it was written; free "
                       rf"some space on the disk of {tmp_path}, and the same command goes on from") as raised:
        RunLog(tmp_path, 0, attempt=1)
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.parametrize(("error", "text"), [
    (OSError(errno.ENOSPC, "a/log.jsonl: No space left; free some"), "a/log.jsonl: No space left; free some"),
    (OSError(errno.ENOSPC, "No space left on device", "/x/init.pt"),
     "/x/init.pt: No space left on device; free some space on that disk, and the same command goes on from the last"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), f"{tempfile.gettempdir()}: Disk quota exceeded; free some space")])
def test_a_workers_full_disk_is_said_with_the_place_and_what_to_do(error, text):
    assert full_disk(error).startswith(text)
    ended = _explained(SimpleNamespace(worker_failures={0: error}))
    assert isinstance(ended, TrainingError) and str(ended) == full_disk(error)


def test_a_loader_that_was_killed_again_and_again_ends_the_training_with_its_own_words(tmp_path):
    failure = RuntimeError("Training failed due to worker errors:\n[Rank 0 Error Snippet]: ...")
    failure.worker_failures = {0: worker_killed("cluster.num_loaders", 4)}
    with pytest.raises(TrainingError, match=r"^small: a worker process was killed .*: set cluster\.num_loaders below 4"
                       r", or run it where more memory is free\nits state is in "):
        _later_state("small", ended_with(_explained(failure)), None, location_of(tmp_path), 0, 3)


def ended_with(error: Exception) -> SimpleNamespace:
    """Workers that end so."""
    def fit(*of: object) -> None:
        raise error

    return SimpleNamespace(fit=fit)


def test_credentials_of_the_storage_are_neither_written_nor_shown(tmp_path, capfd):
    with progress_of(tmp_path, "training small", 20):
        log = RunLog(tmp_path, 0)
        log.write({"step": 0, "doing": "s3://ann:secret@bucket/shards: fetched"})
        log.write({"step": 0, "error": "s3://ann:secret@bucket/dataset.json: no manifest"})
    assert "secret" not in log.path.read_text() and "s3://bucket/shards: fetched" in log.path.read_text()
    assert _note({"error": "s3://ann:secret@bucket/run: other weights"}) == "stopped: s3://bucket/run: other weights"
    said = capfd.readouterr().err
    assert "secret" not in said and "s3://bucket/shards: fetched" in said


def test_a_copy_of_a_log_under_another_name_is_left_alone(tmp_path):
    for rank in (0, 1):
        RunLog(tmp_path, 0, 1, rank)
    for name in ("log-rank001 copy.jsonl", "log-rank.jsonl", "log-rank001_old.jsonl", "log-rank-1.jsonl"):
        (tmp_path / name).write_bytes((tmp_path / LOG_FILE).read_bytes())
    assert list(read_worker_logs(tmp_path)) == [0, 1]


def test_no_log_is_an_empty_one(tmp_path):
    assert read_log(tmp_path) == []


def test_seconds_are_those_of_all_attempts():
    lines = [{"attempt": 1, "seconds": 2.0}, {"attempt": 1, "seconds": 5.0}, {"attempt": 2, "seconds": 3.0}]
    assert seconds_spent(lines) == 8.0


def test_progress_shows_steps_and_no_line_of_an_earlier_try(tmp_path, capfd):
    RunLog(tmp_path, 0).write({"step": 7, "loss": 9.0, "accuracy": 0.5, "steps_per_second": 1.0})
    with progress_of(tmp_path, "training small", 20):
        RunLog(tmp_path, 5).write({"step": 20, "loss": 1.0, "accuracy": 0.5, "steps_per_second": 1.0})
    said = capfd.readouterr().err
    assert "training small: 20/20 steps" in said and "9.0" not in said


def test_what_a_worker_does_before_its_first_step_is_shown_at_once(tmp_path, capfd):
    with progress_of(tmp_path, "training small", 20):
        log = RunLog(tmp_path, 0)
        log.write({"step": 0})
        with lines_to(lambda line: log.write({"step": 0, "doing": line})), Progress("fetching", 8, "B") as fetching:
            say("another process fetches it; waiting")
            fetching.advance(8)
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "training small: another process fetches it; waiting"
    assert said[1].startswith("training small: fetching: 0.0/0.0 MiB")
    assert said[2].startswith("training small: 0/20 steps") and len(said) == 3, "all of it once, by the driver"


def test_new_lines_are_read_once_and_when_they_are_whole(tmp_path):
    log = RunLog(tmp_path, 0)
    new = NewLines(log.path)
    log.write({"step": 1})
    with open(log.path, "a") as file:
        file.write('{"step": 2, "attempt": 0, "seconds": 1.0, ')
    assert [line["step"] for line in new.read()] == [1]
    with open(log.path, "a") as file:
        file.write('"loss": 1}\n')
    assert [line["step"] for line in new.read()] == [2]
    assert new.read() == []
    log.path.write_text('{"step": 1, "attempt": 0, "seconds": 1.0}\n')
    assert [line["step"] for line in new.read()] == [1], "another copy"
    assert NewLines(tmp_path / "none").read() == []


def test_only_the_runs_of_this_model_are_forgotten(tmp_path):
    for name in ("omniglot-0123456789ab", "omniglot-ba9876543210", "omniglot-fce-0123456789ab", "omniglot-notes"):
        (tmp_path / name).mkdir()
    forget_runs("omniglot", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["omniglot-fce-0123456789ab", "omniglot-notes"]


def test_the_runs_of_two_tables_are_apart(small_shards, tmp_path):
    """Models of one name, and names with dots; a run's folder lies directly in the folder of runs."""
    runs, model = tmp_path / "runs", ModelParams(dataset="small", split="random", image_size=16, method=PixelsSpec())
    names = ("omniglot/short", "omniglot/short.v2", "ptb/short", "omniglot/short-fce")
    files = RunFiles(ShardFolder(small_shards), runs)
    folders = {name: run_folder(name, model, ComputeParams(), files) for name in names}
    assert len(set(folders.values())) == len(names) and {folder.parent for folder in folders.values()} == {runs}
    for folder in folders.values():
        folder.mkdir(parents=True)
    forget_runs("omniglot/short", runs)
    assert [name for name in names if folders[name].exists()] == list(names[1:])


def test_a_run_that_is_trained_just_now_is_not_forgotten(tmp_path):
    """With other parameters than the one that has ended."""
    with only_driver(tmp_path / "omniglot-0123456789ab"):
        forget_runs("omniglot", tmp_path)
        assert (tmp_path / "omniglot-0123456789ab").is_dir()
    forget_runs("omniglot", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_each_rank_has_a_log_of_its_own_of_the_same_attempt(tmp_path):
    RunLog(tmp_path, 0)
    attempt = next_attempt(tmp_path)
    for rank in (0, 1, 10):
        RunLog(tmp_path, 5, attempt, rank, node="n").write({"step": 10})
    logs = read_worker_logs(tmp_path)
    assert list(logs) == [0, 1, 10] and logs[0] == read_log(tmp_path) and logs[10] == read_log(tmp_path, 10)
    assert [[line["attempt"] for line in lines] for lines in logs.values()] == [[1, 2, 2], [2, 2], [2, 2]]
    assert logs[1][0]["node"] == "n" and logs[1][0]["time"] > 0


def test_a_worker_killed_in_the_middle_of_a_line_spoils_no_log(tmp_path):
    RunLog(tmp_path, 0)
    RunLog(tmp_path, 0, 1, rank=1).write({"step": 10})
    with open(tmp_path / log_file(1), "a") as file:
        file.write('{"step": 2')
    RunLog(tmp_path, 5, next_attempt(tmp_path), rank=1)
    assert [(line["step"], line["attempt"]) for line in read_worker_logs(tmp_path)[1]] == [(0, 1), (10, 1), (5, 2)]


def test_no_run_has_no_logs(tmp_path):
    assert read_worker_logs(tmp_path / "gone") == {}


def test_the_rate_is_that_of_the_steps_since_the_run_was_taken_up(tmp_path, capsys):
    log = RunLog(tmp_path, 900)
    with progress_of(tmp_path, "training", 1000, first_step=900):
        log.write({"step": 910, "loss": 1.0, "steps_per_second": 1.0})
        time.sleep(1.0)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "910/1,000" in line]
    assert 0 < float(line.split(", ")[1].split()[0]) <= 10, line


def test_who_trains_a_run_is_named(tmp_path):
    with (only_driver(tmp_path / "run"),
          pytest.raises(RunInUseError, match=rf"another process trains this run: {os.getpid()} on "
                        rf"{socket.gethostname()}; wait for its end, or end it there: kill {os.getpid()}$"),
          only_driver(tmp_path / "run")):
        pass
