"""Shards: the same bytes however made, readable by plain webdataset, replaced as a whole or not at all."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import webdataset
from places import ROOT, TESTS
from small_omniglot import NUM_CLASSES, PARAMS, small_omniglot

from matchnet.files import sha256_of
from pipeline.data.formats.tar import TarWriter
from pipeline.data.raw.source import RawSample
from pipeline.data.shards import make as shards
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import INDEX
from pipeline.data.shards.make import notes_of, shard_dataset
from pipeline.data.shards.notes import WrittenShard
from pipeline.data.shards.reader import ShardReader
from pipeline.data.spec import RandomSplit, WholeSplit
from pipeline.system.progress import Progress
from pipeline.system.swap import building_folder
from pipeline.workers.processes import run_in_processes


def sums(directory: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(directory.iterdir())}


def make(raw: Path, out: Path, num_processes: int = 1, **changes: object) -> Path:
    shard_dataset("small", replace(PARAMS, **changes), raw, out, num_processes)  # type: ignore[arg-type]
    return out


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return small_omniglot(tmp_path / "raw", monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return make(small_omniglot(folder / "raw", monkeypatch), folder / "shards")


@pytest.mark.parametrize("error", [OSError("encoder error -2 when writing image file"), RuntimeError("bad password"),
                                   NotImplementedError("compression type 99"), MemoryError()], ids=type)
def test_whatever_a_library_says_names_archive_member_and_key(raw: Path, tmp_path: Path, error: Exception,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.raw.datasets.omniglot.open_raw", lambda raw_dir, params: Mock(side_effect=error))
    with pytest.raises(ValueError, match=rf"^images_\w+\.zip: member images_.*\.png \(key .+/character.*\): "
                                         rf"{type(error).__name__}: {error}.*; leave the sample out$"):
        make(raw, tmp_path / "out")


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """Shards that a test may break."""
    return shutil.copytree(made, tmp_path / "shards")


def test_a_key_with_a_dot_is_refused_whoever_made_it() -> None:
    sample = RawSample("v1.2", "star", "labels.csv", "row 7", 100)
    with pytest.raises(ValueError, match=r"^labels\.csv: member row 7: key 'v1\.2' contains a dot; .*; rename the "
                       "member, or make another key of it in the source's read_raw$"):
        shards._check_keys([sample])


def test_the_same_bytes_again_and_with_two_processes(raw: Path, out: Path, tmp_path: Path) -> None:
    assert len(ShardFolder(out).manifest.shards) > 4
    assert sums(out) == sums(make(raw, tmp_path / "again"))
    assert sums(out) == sums(make(raw, tmp_path / "two", num_processes=2))


def test_the_seed_decides_the_order_and_nothing_else(raw: Path, out: Path, tmp_path: Path) -> None:
    other = make(raw, tmp_path / "other", seed=1)
    keys = [[name for tar in sorted(folder.glob("*.tar")) for name in tarfile.open(tar).getnames()]
            for folder in (out, other)]
    assert keys[0] != keys[1] and sorted(keys[0]) == sorted(keys[1])


def test_plain_webdataset_reads_what_the_index_says(out: Path) -> None:
    samples = webdataset.WebDataset(sorted(str(path) for path in out.glob("*.tar")), shardshuffle=False)
    streamed = {sample["__key__"]: sample["png"] for sample in samples}
    with ShardReader(ShardFolder(out)) as reader:
        contents = reader.read_many(range(len(reader.index)))
        indexed = dict(zip(reader.index.key_R.to_pylist(), contents, strict=True))
    assert len(streamed) == NUM_CLASSES * 20
    assert streamed == indexed


def test_members_have_no_time_and_no_owner(out: Path) -> None:
    members = [member for path in out.glob("*.tar") for member in tarfile.open(path)]
    assert {(member.mtime, member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0, 0o644)}


def test_each_part_of_each_split_is_a_list_of_whole_shards(out: Path) -> None:
    manifest = ShardFolder(out).manifest
    part_of = {split: {name: part for part, names in parts.items() for name in names}
               for split, parts in manifest.splits.items()}
    for entry in manifest.shards:
        classes = {name.rpartition("/")[0] for name in tarfile.open(out / entry.name).getnames()}
        for split in manifest.splits:
            parts = {part_of[split][name] for name in classes}
            assert len(parts) == 1 and f"{split}_{parts.pop()}" in entry.group


def test_shards_keep_to_the_size_asked_for(out: Path) -> None:
    for entry in ShardFolder(out).manifest.shards:
        content = sum(512 + -(-member.size // 512) * 512 for member in tarfile.open(out / entry.name))
        assert content <= PARAMS.shard_size_mib * 2**20


def test_the_manifest_counts_and_names_everything(out: Path) -> None:
    manifest = ShardFolder(out).manifest
    assert manifest.num_samples == sum(entry.num_samples for entry in manifest.shards) == NUM_CLASSES * 20
    assert [entry.num_samples for entry in manifest.classes] == [20] * NUM_CLASSES
    assert manifest.parameters["shard_size_mib"] == PARAMS.shard_size_mib
    names = {entry.name for entry in manifest.shards} | {INDEX, "dataset.json"}
    assert {path.name for path in out.iterdir()} == names
    ShardFolder(out).verify()


def test_an_interrupted_run_goes_on_with_finished_shards(
        raw: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    write_shard = shards.write_shard

    def interrupted_at_the_third(read: object, task: object) -> object:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(task)
        return write_shard(read, task)  # type: ignore[arg-type]

    monkeypatch.setattr(shards, "write_shard", interrupted_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        make(raw, tmp_path / "b")
    half = tmp_path / "b.new"
    assert not (tmp_path / "b").exists() and len(list(half.glob("*.tar"))) == 3
    edited = sorted(half.glob("*.tar"))[0]
    edited.write_bytes(edited.read_bytes()[:-1] + b"x")  # an unharmed shard is kept, this one is made again

    again = []
    monkeypatch.setattr(shards, "write_shard", lambda *given: (again.append(given), write_shard(*given))[1])
    make(raw, tmp_path / "b")
    assert len(again) == len(ShardFolder(out).manifest.shards) - 2
    assert sums(tmp_path / "b") == sums(out)


def test_finished_shards_of_other_parameters_are_not_gone_on_with(
        raw: Path, out: Path, tmp_path: Path) -> None:
    new = tmp_path / "b.new"
    new.mkdir()
    first = ShardFolder(out).manifest.shards[0].name
    (new / first).write_bytes((out / first).read_bytes())
    note = {"fingerprint": "of other parameters", "sha256": sha256_of(out / first),
            "size": (out / first).stat().st_size, "offsets": [0], "lengths": [1]}
    notes_of(tmp_path / "b").mkdir(parents=True)
    (notes_of(tmp_path / "b") / f"{first}.json").write_text(json.dumps(note))
    (new / "stranger.tar").write_bytes(b"")
    assert sums(make(raw, tmp_path / "b")) == sums(out)


@pytest.fixture
def remade(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the shards that are written from now on."""
    names, write = [], shards.write_shard
    monkeypatch.setattr(shards, "write_shard", lambda read, task: (names.append(task.plan.name), write(read, task))[1])
    return names


ALL_TEST = {"all": WholeSplit()}


@pytest.mark.parametrize(("before", "after"), [
    ({}, {}), ({}, {"invert": False}), ({}, {"margin": 0.1}), ({}, {"margin": 0.1, "upright": True}),
    ({"splits": ALL_TEST}, {"splits": {"all": RandomSplit(num_valid=0, num_test=NUM_CLASSES)}})])
def test_shards_that_are_there_are_not_made_again(
        raw: Path, tmp_path: Path, remade: list[str], before: dict, after: dict) -> None:
    """After a failure of DVC, and where only loading changes, or splits that cut the classes as they were."""
    out = make(raw, tmp_path / "b", **before)
    files = {path.name: path.stat() for path in out.glob("*.tar")}
    assert len(remade) == len(files) > 0
    remade.clear()
    make(raw, out, **after)
    assert not remade
    now = {path.name: path.stat() for path in out.glob("*.tar")}
    assert {name: (found.st_ino, found.st_nlink) for name, found in now.items()} == {
        name: (found.st_ino, 1) for name, found in files.items()}
    assert sums(out) == sums(make(raw, tmp_path / "anew", **after))


def test_only_what_is_not_whole_is_made_again_and_notes_follow(
        raw: Path, out: Path, tmp_path: Path, remade: list[str]) -> None:
    expected = sums(out)
    out = make(raw, tmp_path / "b")
    first, second, third = sorted(path.name for path in out.glob("*.tar"))[:3]
    (out / first).write_bytes((out / first).read_bytes()[:-1] + b"x")
    (out / second).unlink()
    (notes_of(out) / f"{third}.json").unlink()
    remade.clear()
    assert sums(make(raw, out)) == expected and sorted(remade) == [first, second, third]
    make(raw, out, shard_size_mib=1)
    names = {path.name for path in out.glob("*.tar")}
    assert {path.name for path in notes_of(out).iterdir()} == {f"{name}.json" for name in names}
    assert 0 < len(names) < len(expected) - 2


@pytest.mark.parametrize("links", [True, False])
def test_shards_that_dvc_has_linked_to_its_cache(
        raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remade: list[str], links: bool) -> None:
    """Read-only, and never written to; copied where a hard link is not possible."""
    out, cache = make(raw, tmp_path / "b"), tmp_path / "cache"
    cache.mkdir()
    for number, tar in enumerate(sorted(out.glob("*.tar"))):
        os.replace(tar, cache / tar.name)
        (cache / tar.name).chmod(0o444)
        tar.symlink_to(cache / tar.name) if number % 2 else os.link(cache / tar.name, tar)
    cached = sums(cache)
    if not links:
        monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EXDEV, os.strerror(errno.EXDEV))))
    remade.clear()
    make(raw, out, invert=False)
    assert not remade and {name: sha256 for name, sha256 in sums(out).items() if name in cached} == cached
    assert not any(tar.is_symlink() for tar in out.iterdir())
    assert all((out / name).samefile(cache / name) == links for name in cached)
    make(raw, out, seed=1)
    assert sums(cache) == cached and not cached.items() <= sums(out).items()


def test_shards_have_no_second_name_until_all_are_made(
        raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC would copy them before the next run."""
    out = make(raw, tmp_path / "b")
    sorted(out.glob("*.tar"))[0].unlink()
    monkeypatch.setattr(shards, "write_shard", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make(raw, out)
    assert {tar.stat().st_nlink for tar in out.glob("*.tar")} == {1}


def test_progress_counts_shards_as_they_are_verified(
        raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = make(raw, tmp_path / "b")
    begun: list[Progress] = []
    done: list[int] = []
    start, is_at = Progress.__init__, WrittenShard.is_at
    monkeypatch.setattr(Progress, "__init__", lambda self, *given: (begun.append(self), start(self, *given))[1])
    monkeypatch.setattr(WrittenShard, "is_at", lambda self, path: (done.append(begun[0].done), is_at(self, path))[1])
    make(raw, out)
    sizes = [entry.num_samples for entry in ShardFolder(out).manifest.shards]
    assert list(dict.fromkeys(done)) == [sum(sizes[:number]) for number in range(len(sizes))]


def test_what_is_there_needs_no_room_and_a_copy_of_dvc_is_told_of(
        raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = make(raw, tmp_path / "b")
    assert "warning" not in capsys.readouterr().err
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda path: usage)
    make(raw, out, invert=False)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1 and "`dvc config cache.type reflink,hardlink`" in warnings[0]
    assert f"small: warning: about 0.000 GiB are missing on the disk of {tmp_path} for the copy" in warnings[0]


def test_an_error_of_the_system_names_shard_and_node(
        raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TarWriter, "add", Mock(side_effect=OSError(errno.EIO, os.strerror(errno.EIO))))
    message = rf"small: sharding failed: shard \S+\.tar on {socket.gethostname()}: Input/output error; .*b is as before"
    with pytest.raises(OSError, match=message):
        make(raw, tmp_path / "b")


@pytest.mark.parametrize(("unseen", "what"), [("b.new", r"shard \S+\.tar"), ("raw", "raw files")])
def test_a_node_that_does_not_see_a_folder(raw: Path, tmp_path: Path, unseen: str, what: str) -> None:
    def elsewhere(*given: object) -> object:
        os.rename(tmp_path / unseen, tmp_path / "not seen there")
        return run_in_processes(*given, num_processes=1)  # type: ignore[arg-type]

    message = (rf"{what} on {socket.gethostname()}: {tmp_path / unseen}.*: No such file or directory: each node of a "
               r"cluster must see it under this path: mount it there, or set cluster\.storage, with which")
    with pytest.raises(FileNotFoundError, match=message):
        shard_dataset("small", PARAMS, raw, tmp_path / "b", run=elsewhere)  # type: ignore[arg-type]


def _die(read: object, task: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed(raw: Path, tmp_path: Path) -> None:
    def dying(start: Callable, start_args: tuple, work: Callable, tasks: Sequence) -> Iterator:
        return run_in_processes(start, start_args, _die, tasks, 2, "cluster.num_processes")

    message = (r"small: sharding failed: a worker process was killed \(out of memory\?\) or could not start: set "
               r"cluster\.num_processes below 2, or run it where more memory is free; .*b is as before, and the shards "
               r"that are finished stay in .*b\.new: mend that, and run the shard stage again")
    with pytest.raises(OSError, match=message):
        shard_dataset("small", PARAMS, raw, tmp_path / "b", run=dying)
    make(raw, tmp_path / "b")


def test_a_disk_that_gets_full_keeps_the_old_shards_and_the_finished_ones(
        raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, finish, finished = sums(out), TarWriter.finish, []

    def full_at_the_third(self: TarWriter) -> None:
        if len(finished) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finish(self)
        finished.append(self)

    monkeypatch.setattr(TarWriter, "finish", full_at_the_third)
    message = (r"small: sharding failed: shard .*\.tar on .*: No space left on device; .*shards is as before, and .* "
               r"stay in .*shards\.new: ")
    with pytest.raises(OSError, match=message) as raised:
        make(raw, out, seed=1)
    assert raised.value.errno == errno.ENOSPC
    new = out.with_name("shards.new")
    assert sums(out) == before and len(list(new.glob("*.tar"))) == 2 and not list(new.glob("*.part"))
    times = {path.name: path.stat().st_mtime_ns for path in new.glob("*.tar")}
    monkeypatch.setattr(TarWriter, "finish", finish)
    make(raw, out, seed=1)
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times, "they are not made again"


MAIN = """
import resource, sys, time
from dataclasses import replace
from pathlib import Path
from pipeline.data.raw.datasets import omniglot
from pipeline.data.shards.make import shard_dataset
from small_omniglot import COUNTS, PARAMS

{patch}

if __name__ == "__main__":
    omniglot.CHARACTERS = COUNTS
    shard_dataset("small", replace(PARAMS, seed=1), Path(sys.argv[1]), Path(sys.argv[2]), 2)
"""
NO_LARGE_FILES = "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
SLOWLY = """
open_zips = omniglot.open_zips
omniglot.open_zips = lambda raw_dir: lambda sample: (time.sleep(0.1), open_zips(raw_dir)(sample))[1]
"""


def start_sharding(script: Path, patch: str, raw: Path, out: Path) -> subprocess.Popen[str]:
    """Sharding with two processes, in a process group of its own."""
    script.write_text(MAIN.format(patch=patch))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}"}
    return subprocess.Popen([sys.executable, script, raw, out], stderr=subprocess.PIPE, text=True,
                            start_new_session=True, env=environment)


def test_a_write_that_fails_in_a_worker_leaves_the_old_shards(raw: Path, out: Path, tmp_path: Path) -> None:
    before = sums(out)
    process = start_sharding(tmp_path / "main.py", NO_LARGE_FILES, raw, out)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "small: sharding failed: shard " in errors
    assert ": File too large; " in errors and "stay in" in errors
    new = out.with_name("shards.new")
    assert sums(out) == before and new.is_dir() and not list(new.glob("*.part"))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_ending_the_run_ends_its_workers_and_keeps_the_old_shards(
        raw: Path, out: Path, tmp_path: Path, ending: signal.Signals) -> None:
    before = sums(out)
    process = start_sharding(tmp_path / "main.py", SLOWLY, raw, out)
    wait_until(lambda: len(list(out.with_name("shards.new").glob("*.part"))) == 2)
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)  # as a terminal does at Ctrl-C: to all processes of the group
    else:
        process.kill()
    _, errors = process.communicate(timeout=60)
    wait_until(lambda: not group_lives(process.pid))
    assert process.returncode != 0, errors
    assert sums(out) == before


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("not within a minute")


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_swap_cut_between_its_two_renames_is_put_right(raw: Path, out: Path) -> None:
    before = sums(out)
    out.rename(out.with_name("shards.old"))  # what a power cut between the renames leaves
    building_folder(out)
    assert sums(out) == before


def test_an_old_version_that_cannot_be_removed_is_not_in_the_way(
        raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As over NFS, while a node reads it."""
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.system.swap.shutil.rmtree", lambda path, ignore_errors: None)
        make(raw, out, seed=1)
        make(raw, out)
    left = list(out.parent.glob("shards.old*"))
    said = capsys.readouterr().err
    assert len(left) == 2 and all(f"{path}: an old version that cannot be removed" in said for path in left)
    building_folder(out)
    assert not list(out.parent.glob("shards.old*"))
