"""Trainings on this machine and under Ray: whatever is killed, the run ends with the same weights, and workers share
the same episodes."""

import gzip
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from places import ROOT, TESTS
from small_disk import disk_of

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodes import EpisodeSpec, FineGrainedSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.methods import build_method
from matchnet.methods.mann import MannSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.model_file import ModelFile, write_model
from matchnet.training import train
from pipeline.data.formats.images import preparation_of
from pipeline.data.load.samples import Room
from pipeline.data.nodes.cache import CacheParams
from pipeline.data.nodes.upload import upload_file
from pipeline.data.shards.folder import ShardFolder
from pipeline.params import ComputeParams, ModelParams
from pipeline.params.sections import ClusterParams, Params, ReportParams, RowParams
from pipeline.system.memory import KEEP_FREED_MEMORY
from pipeline.system.storage import location_of
from pipeline.training import log_copies
from pipeline.training.checkpoint import newest_state, save_state
from pipeline.training.computing import choose_precision
from pipeline.training.data import load_task, require_classes, training_classes
from pipeline.training.driver import name_runs_left_aside, run_training
from pipeline.training.errors import TrainingError, WorkersLostError
from pipeline.training.local_training import LocalWorker, _how_it_ended
from pipeline.training.run_log import LOG_FILE, read_log, read_worker_logs
from pipeline.training.runs import RunFiles, RunInUseError, forget_runs, only_driver, run_folder
from pipeline.training.worker import WorkerSettings, init_file, room_of
from stages.train import require_test_episodes

TRAINING = EpisodicSpec(episode=EpisodeSpec(5, 1, 2), steps=160, valid_episode=EpisodeSpec(2, 1, 2), valid_episodes=10,
                        valid_every=80, checkpoint_every=20, log_every=5)
MODEL = ModelParams(dataset="small", split="random", image_size=16, training=TRAINING,
                    method=MatchingNetworkSpec(encoder=Conv4Spec(num_filters=4)))
COMPUTE = ComputeParams(num_workers=1, threads_per_worker=1, device="cpu", precision="fp32")
IN_SESSION = ClusterParams(ray_address="auto")  # the Ray of `ray_session`
LATE_ENOUGH = 45  # steps: at least two checkpoints lie there


@pytest.fixture
def arguments(small_shards: Path, tmp_path: Path) -> dict[str, Any]:
    return {"name": "small", "model": MODEL, "compute": COMPUTE, "cluster": ClusterParams(),
            "files": RunFiles(ShardFolder(small_shards), tmp_path / "runs")}


def with_files(arguments: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {**arguments, "files": replace(arguments["files"], **changed)}


@dataclass(frozen=True)
class Undisturbed:
    """A run that was left alone: how it was called, and its weights."""

    arguments: dict[str, Any]
    weights: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def undisturbed(small_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    arguments = {"name": "small", "model": MODEL, "compute": COMPUTE, "cluster": ClusterParams(),
                 "files": RunFiles(ShardFolder(small_shards), tmp_path_factory.mktemp("undisturbed"))}
    state, log = run_training(**arguments)
    assert state["step"] == TRAINING.steps and [line["step"] for line in log if "valid_accuracy" in line] == [80, 160]
    return Undisturbed(arguments, state["model"])


def same_bits(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def folder_of(arguments: dict[str, Any]) -> Path:
    return run_folder("small", arguments["model"], arguments["compute"], arguments["files"])


def when_training(folder: Path, act: Callable[[int], None], patience: float = 120) -> threading.Thread:
    """Call `act` with the worker's process id once the run in `folder` is at LATE_ENOUGH."""
    def wait() -> None:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            lines = read_log(folder)
            if lines and lines[-1]["step"] >= LATE_ENOUGH:
                act(lines[0]["process"])
                return
            time.sleep(0.02)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("cluster", [ClusterParams(), IN_SESSION], ids=["here", "ray"])
def test_a_killed_worker_changes_nothing(undisturbed, ray_session, arguments, cluster, capfd):
    arguments["cluster"] = cluster
    folder, settings = folder_of(arguments), []

    def kill(process: int) -> None:
        settings.append(psutil.Process(process).environ())
        os.kill(process, signal.SIGKILL)

    when_training(folder, kill)
    state, log = run_training(**arguments)
    attempts = [line["step"] for line in log if "process" in line]
    assert len(attempts) == 2 and 0 < attempts[1] < TRAINING.steps, "it was killed, and taken up from a checkpoint"
    assert same_bits(state["model"], undisturbed.weights)
    assert settings[0].items() >= KEEP_FREED_MEMORY.items(), "freed memory is kept where a worker trains"
    said = "training: the process that trains was killed (out of memory?): run it where more memory is free; it is"
    assert (said in capfd.readouterr().err) == (cluster.ray_address is None)


def test_a_worker_that_is_killed_again_and_again_ends_the_training(arguments):
    """Before its first checkpoint: nothing shows that another try would come further."""
    model = replace(MODEL, training=replace(TRAINING, checkpoint_every=160))
    arguments |= {"model": model, "cluster": ClusterParams(max_failures=1)}
    folder, killed = folder_of(arguments), set()

    def kill_each() -> None:
        end = time.monotonic() + 60
        while len(killed) < 2 and time.monotonic() < end:
            for line in read_log(folder):
                if line.get("process") not in {None, *killed}:
                    killed.add(line["process"])
                    os.kill(line["process"], signal.SIGKILL)
            time.sleep(0.02)

    threading.Thread(target=kill_each, daemon=True).start()
    with pytest.raises(TrainingError, match=r"^small: the process that trains was killed \(out of memory\?\): run .*\n"
                                            r"its state is in .*; the same command goes on from there$"):
        run_training(**arguments)
    assert [line["attempt"] for line in read_log(folder) if "process" in line] == [1, 2]


def test_an_error_of_the_worker_that_is_not_its_datas_comes_with_its_traceback(tmp_path):
    settings = WorkerSettings(MODEL, None, str(tmp_path / "gone"), None, (), str(tmp_path / "run"), threads=1,
                              precision="fp32", compile=False)
    (tmp_path / "run" / LOG_FILE).mkdir(parents=True)
    with pytest.raises(WorkersLostError, match=r"IsADirectoryError.*log") as lost:
        LocalWorker(COMPUTE).fit(settings, max_failures=0)
    assert "Traceback" in str(lost.value)


@pytest.mark.parametrize(("code", "text"), [
    (-signal.SIGSEGV, "was killed by SIGSEGV"), (-37, "was killed by signal 37"), (143, "ended with status 143"),
    (-signal.SIGKILL, "was killed (out of memory?): run it where more memory is free")])
def test_the_end_of_a_process_is_named(code, text):
    assert _how_it_ended(SimpleNamespace(exitcode=code)) == f"the process that trains {text}"


def test_one_worker_takes_one_gpu_of_several(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    worker = LocalWorker(replace(COMPUTE, device="auto"))
    assert worker.device == torch.device("cuda", 0)
    assert capsys.readouterr().out == "training on 1 of 8 GPUs (compute.num_workers)\n"
    assert LocalWorker(COMPUTE).device == torch.device("cpu")


@pytest.mark.parametrize("where", [ClusterParams(), IN_SESSION], ids=["here", "ray"])
def test_a_run_on_storage_at_an_address_survives_its_worker_too(
        undisturbed, ray_session, arguments, where, tmp_path, monkeypatch):
    """Nothing but addresses reaches the worker: shards come through its node's cache, the log beside checkpoints."""
    monkeypatch.setattr(log_copies, "SECONDS_BETWEEN_LISTINGS", 0.02)
    storage, cache = tmp_path / "storage", CacheParams(folder=str(tmp_path / "cache"), gib=0.1)
    arguments["cluster"] = replace(where, storage=f"file://{storage}", cache=cache)
    folder = folder_of(arguments)
    when_training(folder, lambda process: os.kill(process, signal.SIGKILL))
    state, log = run_training(**with_files(arguments, trace=tmp_path / "profiles" / "small.json.gz"))
    assert same_bits(state["model"], undisturbed.weights)
    attempts = [line["step"] for line in log if "process" in line]
    assert len(attempts) == 2 and 0 < attempts[1] < TRAINING.steps
    assert (tmp_path / "profiles" / "small.json.gz").is_file()
    assert {line["step"] for line in log if "loss" in line} == set(range(5, 161, 5)), "before the kill and after it"
    assert sorted(path.name for path in folder.iterdir()) == ["lock", log_copies.LOG_FILE]
    [run] = storage.glob(f"runs/*/{folder.name}")
    assert len(list(run.glob("step*/state.pt"))) == 2
    assert list(tmp_path.glob("cache/*/dataset.json")) and list(storage.glob("shards/*/dataset.json"))

    other = storage / "runs" / "another checkout" / folder.name
    other.mkdir(parents=True)
    forget_runs("small", arguments["files"].runs, arguments["cluster"].storage)
    assert other.exists() and not run.exists()


def test_a_run_that_is_left_aside_is_named_if_there_is_something_to_go_on_from(tmp_path, capsys):
    this, refused, far = (tmp_path / f"small-{digit * 12}" for digit in "abc")
    for folder in (this, refused, far, tmp_path / "small-fce-dddddddddddd"):
        folder.mkdir()
    save_state(location_of(far), {"step": 40, "model": {}})
    save_state(location_of(tmp_path / "small-fce-dddddddddddd"), {"step": 60, "model": {}})
    name_runs_left_aside("small", this, storage=None)
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"small: begins anew; {far} has come to step 40 with another compute, model or data, and")


def test_the_file_of_first_weights_comes_from_an_address_whole(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights" * 300_000)
    target = location_of(f"file://{tmp_path}/storage/runs/small") / "init.pt"
    upload_file(tmp_path / "model.pt", target)
    with init_file(target.address) as copy:
        assert copy is not None and copy.read_bytes() == (tmp_path / "model.pt").read_bytes()
    assert not copy.exists()
    with init_file(str(tmp_path / "model.pt")) as own, init_file(None) as nothing:
        assert own == tmp_path / "model.pt" and nothing is None


def test_a_killed_driver_changes_nothing(undisturbed, arguments, capfd):
    folder = folder_of(arguments)
    driver = subprocess.Popen([sys.executable, TESTS / "training_process.py"], stdin=subprocess.PIPE,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})
    workers = []

    def kill(process: int) -> None:
        workers.append(psutil.Process(process))
        driver.kill()

    when_training(folder, kill)
    driver.communicate(pickle.dumps(arguments))
    assert driver.returncode == -signal.SIGKILL
    assert psutil.wait_procs(workers, timeout=20)[1] == [], "its worker ends with it"
    state, _ = run_training(**arguments)
    assert "small: goes on from step" in capfd.readouterr().out
    assert same_bits(state["model"], undisturbed.weights)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk_of("4m", tmp_path / "disk") as disk:
        yield disk


def test_a_full_disk_leaves_the_checkpoints_that_there_are(undisturbed, arguments, small_disk):
    arguments |= {"files": replace(arguments["files"], runs=small_disk), "cluster": ClusterParams(max_failures=1)}
    folder, ballast = folder_of(arguments), small_disk / "ballast"

    def fill(process: int) -> None:
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free)

    when_training(folder, fill)
    with pytest.raises(TrainingError, match=r"No space left on device while it was written.*free some space"):
        run_training(**arguments)
    state = newest_state(location_of(folder))
    assert state is not None and 20 <= state["step"] < TRAINING.steps
    ballast.unlink()
    again, _ = run_training(**arguments)
    assert same_bits(again["model"], undisturbed.weights)


def test_a_second_process_does_not_train_the_same_run(undisturbed):
    with only_driver(folder_of(undisturbed.arguments)), pytest.raises(RunInUseError, match="another process trains"):
        run_training(**undisturbed.arguments)


def test_a_finished_run_is_not_run_again(undisturbed):
    folder = folder_of(undisturbed.arguments)
    before = len(read_log(folder))
    again, _ = run_training(**undisturbed.arguments)
    assert same_bits(again["model"], undisturbed.weights) and len(read_log(folder)) == before


@pytest.mark.parametrize("num_workers", [2, (1, 2)])
def test_two_workers_use_the_episodes_of_one(ray_session, arguments, num_workers, tmp_path):
    """Also where they are the most of a range. Each has a log, with its speed; rank 0 writes the profile.

    MANN has no batch normalisation: the mean gradient over an episode a worker is that over two in one worker.
    Sums in another order, over five steps of Adam at a high rate: 1.3e-4 apart on a CPU with AVX-512.
    """
    training = replace(TRAINING, episodes_per_step=2, steps=5, valid_every=5, checkpoint_every=5, learning_rate=1e-2)
    model = replace(MODEL, train_parts=("train", "valid"), method=MannSpec(), training=training)
    arguments |= {"model": model, "compute": replace(COMPUTE, num_workers=num_workers)}
    together = run_training(**with_files(arguments, trace=tmp_path / "trace.json.gz"))[0]["model"]
    alone, with_others = (train_here(model, arguments["files"].shards, seed) for seed in (0, 1))
    assert largest_difference(together, alone) < 3e-4 < 1e-3 < largest_difference(with_others, alone)
    logs = read_worker_logs(folder_of(arguments))
    assert list(logs) == [0, 1]
    for lines in logs.values():
        assert lines[0]["workers"] == 2
        [speeds] = [line for line in lines if line["step"] == 5 and "loss" in line]
        assert {"worker_episodes_per_second", "data_wait_share", "peak_rss_mib"} <= speeds.keys()
    assert "traceEvents" in json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))


@pytest.mark.parametrize("cluster", [ClusterParams(), IN_SESSION], ids=["here", "ray"])
def test_a_mistake_that_shows_in_training_ends_it_at_once(ray_session, arguments, cluster, monkeypatch):
    """Three validation classes of the two that there are: a lost worker would be replaced, this is not tried again."""
    arguments["cluster"] = cluster
    monkeypatch.setattr("pipeline.training.driver.require_classes", lambda model, shards: None)
    training = replace(TRAINING, valid_episode=EpisodeSpec(3, 1, 2), valid_every=5)
    with pytest.raises(TrainingError, match=r"^small: 3 ways of 2 classes; lower num_ways or use a larger part"):
        run_training(**{**arguments, "model": replace(MODEL, training=training)})


@pytest.mark.parametrize(("change", "message"), [
    ({"valid_episode": EpisodeSpec(3, 1, 2)},
     "training.valid_episode: num_ways is 3, and there are 2 classes (dataset small, split random, valid); lower it, "
     "or change datasets.small.splits.random so that there are more"),
    ({"episode": EpisodeSpec(700, 1, 2)}, "training.episode: num_ways is 700, and there are "),
    ({"episode": EpisodeSpec(5, 1, 20)}, "training.episode: num_shots is 1 and num_queries 20, 21 samples of a class, "
     "and class '"),
    ({"episode": EpisodeSpec(2, 1, 2, FineGrainedSpec())}, "training.episode: dataset small, split random, train: ")])
def test_classes_that_cannot_serve_the_episodes_are_refused_before_workers_start(
        arguments, monkeypatch, change, message):
    monkeypatch.setattr("pipeline.training.driver.workers_for", None)  # calling it would be a TypeError
    model = replace(MODEL, training=replace(TRAINING, **change))
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        run_training(**{**arguments, "model": model})


def test_rotations_are_classes_of_their_own_before_workers_start_too(arguments):
    shards, training = arguments["files"].shards, replace(TRAINING, episode=EpisodeSpec(40, 1, 2))
    assert len(shards.names_of("random", ("train",))) == 10
    require_classes(replace(MODEL, training=training, rotations=True), shards)
    with pytest.raises(ValueError, match=r"num_ways is 40, and there are 10 classes"):
        require_classes(replace(MODEL, training=training), shards)
    training = replace(TRAINING, episode=EpisodeSpec(41, 1, 2))
    with pytest.raises(ValueError, match=r"num_ways is 41, and there are 40 classes"):
        require_classes(replace(MODEL, training=training, rotations=True), shards)


def test_a_method_that_cannot_be_built_or_begun_is_refused_before_workers_start(arguments, monkeypatch, tmp_path):
    monkeypatch.setattr("pipeline.training.driver.workers_for", None)  # calling it would be a TypeError
    model, shards = replace(MODEL, image_size=8), arguments["files"].shards
    with pytest.raises(ValueError, match=r"^method matching_network for 10 classes of small: images of 8 x 8 "):
        run_training(**{**arguments, "model": model})
    held_out = shards.names_of("random", ("test",))[:1]
    init, base = tmp_path / "model.pt", replace(MODEL, training=None)
    state = build_method(base.method, base.sample_shape, 1).state_dict()
    write_model(init, ModelFile(
        model_name="base", method=base.method, num_classes=1, sample_shape=base.sample_shape,
        preparation=preparation_of(shards.manifest.parameters, base.sample_shape), state_dict=state, step=1, seed=0,
        dataset_sha256="ab", split="random", train_classes=held_out, seconds=0.0))
    with pytest.raises(ValueError, match=rf"model\.pt: has been trained on '{held_out[0]}' \(1 such classes\)"):
        run_training(**with_files({**arguments, "model": replace(MODEL, init="t/base")}, init=init))


def test_rotations_of_images_that_stay_in_their_shards_are_refused(arguments, monkeypatch):
    """Before workers start if the parameters set the memory, else by the worker, whose node has it."""
    monkeypatch.setattr("pipeline.training.driver.workers_for", None)  # calling it would be a TypeError
    model, shards = replace(MODEL, rotations=True), arguments["files"].shards
    needed = shards.count_samples("random", ("train",)) * 16 * 16
    message = (rf"^rotations is true, and the training images take {needed:,} bytes, of 0 that a worker may take: .*; "
               r"set cluster\.memory_gib to 0\.01 or more, or write rotations: false$")
    with pytest.raises(ValueError, match=message):
        run_training(**{**arguments, "model": model, "cluster": ClusterParams(memory_gib=0)})
    with pytest.raises(ValueError, match=message):
        load_task(model, shards, Room(memory_bytes=0))
    assert len(load_task(model, shards, Room(memory_bytes=needed)).data.store) == 4 * needed // 256


@pytest.mark.parametrize(("columns", "message"), [
    (("5w1s", "700w1s"), "rows: t/row: column 700w1s: num_ways is 700, and there are "),
    (("2w99s",), "rows: t/row: column 2w99s: num_shots is 99 and num_queries 5, 104 samples of a class, and class '")])
def test_columns_that_the_test_classes_cannot_serve_are_refused_before_training(
        small_shards, tmp_path, monkeypatch, columns, message):
    monkeypatch.setattr("pipeline.paths.SHARDS", tmp_path)
    row = RowParams(model="t/small", dataset="small", split="random", part="train", columns=columns)
    params = Params(table="t", folder=Path("t"), datasets={}, models={"t/small": MODEL}, rows={"t/row": row},
                    comparisons={}, report=ReportParams(title="t"))
    require_test_episodes("t/small", params)  # no shards yet: nothing to look at
    (tmp_path / "small").symlink_to(small_shards)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        require_test_episodes("t/small", params)
    require_test_episodes("t/other", params)


@pytest.mark.parametrize(("change", "message"), [
    ({"split": "alphabets"}, "model t/small (rows: t/row): has been trained on '"),
    ({"split": "alphabets", "part": "train"}, ""), ({"split": "alphabets", "oracle": True}, ""), ({}, "")])
def test_rows_of_classes_that_the_training_has_are_refused_before_it(
        small_shards, tmp_path, monkeypatch, change, message):
    monkeypatch.setattr("pipeline.paths.SHARDS", tmp_path)
    (tmp_path / "small").symlink_to(small_shards)
    row = replace(RowParams(model="t/small", dataset="small", split="random", columns=("2w1s",)), **change)
    params = Params(table="t", folder=Path("t"), datasets={}, models={"t/small": replace(MODEL, rotations=True)},
                    rows={"t/row": row}, comparisons={}, report=ReportParams(title="t"))
    with pytest.raises(ValueError, match=re.escape(message)) if message else nullcontext():
        require_test_episodes("t/small", params)


def test_a_training_without_shards_names_the_command_that_makes_them(arguments, tmp_path):
    with pytest.raises(ValueError, match=r"nothing/dataset.json: no such file: dataset nothing has no finished shards; "
                       r"run this stage by `dvc repro`, .* or run `python -m stages.download` and then "):
        run_training(**with_files(arguments, shards=ShardFolder(tmp_path / "nothing")))
    with pytest.raises(ValueError, match=r"model.pt: there is no such file: the model that this one begins with"):
        run_training(**with_files(arguments, init=tmp_path / "model.pt"))


def train_here(model: ModelParams, shards: ShardFolder, seed: int) -> dict[str, torch.Tensor]:
    """The weights after training in this process, from the same start whatever the seed of the episodes."""
    assert model.training is not None
    torch.manual_seed(model.training.seed)
    classes = training_classes(model, shards)
    method = build_method(model.method, classes.sample_shape, len(classes.names))
    train(method, load_task(replace(model, training=replace(model.training, seed=seed)), shards))
    return method.state_dict()


def largest_difference(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    return max(float((weights[name] - others[name]).abs().max()) for name in weights)


def test_precision_is_what_was_asked_for_or_what_the_device_has():
    cpu = torch.device("cpu")
    assert (choose_precision("fp32", cpu), choose_precision("bf16", cpu)) == ("fp32", "bf16")
    found = torch.cpu.get_capabilities()
    assert choose_precision("auto", cpu) == ("bf16" if found.get("avx512_bf16") or found.get("amx_bf16") else "fp32")


def test_workers_of_a_node_divide_what_its_processes_may_share(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.training.worker.memory_to_share", lambda: 800)
    task = WorkerSettings(MODEL, None, "shards", None, (), "run", threads=3, precision="auto", compile=False)
    room = room_of(task, workers_of_node=4)
    assert (room.num_processes, room.shared_bytes) == (3, 100)


@pytest.mark.parametrize("change", [
    {"model": replace(MODEL, rotations=True)},
    {"model": replace(MODEL, training=replace(TRAINING, seed=1))},
    {"compute": replace(COMPUTE, num_workers=2)},
    {"compute": replace(COMPUTE, compile=True)},
])
def test_other_parameters_are_another_run(arguments, change):
    assert folder_of({**arguments, **change}) != folder_of(arguments)
