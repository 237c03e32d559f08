"""Shards on far storage: published whole, fetched once a node, verified, bounded in size, whatever fails."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from faulty_storage import Faults, use_far_storage
from places import TESTS

from pipeline.data.nodes import cache as shard_cache
from pipeline.data.nodes.cache import GIB, CacheParams, ChangedError, local_shards, version_name
from pipeline.data.nodes.upload import upload_shards
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import INDEX
from pipeline.data.shards.manifest import MANIFEST
from pipeline.data.shards.reader import ShardReader
from pipeline.system import storage
from pipeline.system.storage import StorageError, location_of

LOST = ConnectionResetError(errno.ECONNRESET, "the line is dead")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def root(small_shards: Path, tmp_path: Path) -> Path:
    """What `far://` stands for: shards in `small` that a test may break."""
    shutil.copytree(small_shards, tmp_path / "far" / "small")
    return tmp_path / "far"


@pytest.fixture
def faults(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    faults = Faults(tmp_path / "opened.log")
    use_far_storage(root, faults, monkeypatch)
    return faults


@pytest.fixture
def cache(tmp_path: Path) -> CacheParams:
    return CacheParams(folder=str(tmp_path / "cache"), gib=1)


def rename(shards: Path, name: str) -> Path:
    """A copy beside it: another dataset, of other bytes by its name."""
    copy = shards.with_name(name)
    shutil.copytree(shards, copy)
    manifest = (copy / MANIFEST).read_text()
    (copy / MANIFEST).write_text(manifest.replace('"name": "small"', f'"name": "{name}"', 1))
    return copy


def total_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size_of(path: Path) -> int:
    return path.stat().st_size


def contents(folder: Path) -> dict[str, bytes]:
    names = [path for path in folder.iterdir() if path.suffix != ".use" and path.name != ".fetching"]
    return {path.name: path.read_bytes() for path in names}


def first_tar(folder: Path) -> Path:
    return sorted(folder.glob("*.tar"))[0]


# -- what comes --------------------------------------------------------------------------------------------------------

def test_the_copy_is_the_dataset_and_comes_once(root: Path, faults: Faults, cache: CacheParams) -> None:
    with local_shards("far://small", cache) as folder:
        ShardFolder(folder).verify()
        assert contents(folder) == contents(root / "small")
        assert folder.name == version_name(ShardFolder(folder).manifest, ShardFolder(root / "small").sha256)
    assert sorted(faults.opened(".tar")) == sorted(path.name for path in root.glob("small/*.tar"))
    faults.log.unlink()
    with local_shards("far://small", cache):
        assert faults.opened() == [MANIFEST]


def test_only_the_groups_asked_for_come(root: Path, faults: Faults, cache: CacheParams) -> None:
    manifest = ShardFolder(root / "small").manifest
    groups = ShardFolder(root / "small").groups_of("random", ("test",))
    assert 0 < len(groups) < len({entry.group for entry in manifest.shards})
    with local_shards("far://small", cache, groups) as folder, ShardReader(ShardFolder(root / "small")) as whole:
        wanted = {entry.name for entry in manifest.shards if entry.group in groups}
        assert {path.name for path in folder.glob("*.tar")} == wanted
        ShardFolder(folder).verify(groups)
        with ShardReader(ShardFolder(folder), groups) as reader:
            rows, _ = ShardFolder(folder).select("random", ("test",))
            assert len(rows) == 80
            assert reader.read_many(rows) == whole.read_many(rows)
            others = np.setdiff1d(np.arange(len(whole.index)), rows)
            with pytest.raises(ValueError, match="of a group that was not asked for"):
                reader.read_many([rows[0], others[0]])
        with pytest.raises(ValueError, match=r"\.tar: 0 bytes, but dataset.json says"):
            ShardReader(ShardFolder(folder))
    with local_shards("far://small", cache) as folder:
        ShardFolder(folder).verify()
    assert len(faults.opened(".tar")) == len(manifest.shards)  # the rest came, none twice


def test_a_group_that_is_not_there(faults: Faults, cache: CacheParams) -> None:
    with (pytest.raises(ValueError, match="groups: 'dogs' is not a group of small at far://small"),
          local_shards("far://small", cache, {"dogs"})):
        pass


def test_a_path_is_read_where_it_is_and_an_address_is_not(small_shards: Path, faults: Faults) -> None:
    for address in (str(small_shards), f"file://{small_shards}"):
        with local_shards(address, None) as folder:
            assert folder == small_shards
    with (pytest.raises(StorageError, match="far://small: shards at an address are read through copies on each node"),
          local_shards("far://small", None)):
        pass


def test_a_path_with_a_cache_is_copied(small_shards: Path, cache: CacheParams) -> None:
    with local_shards(str(small_shards), cache) as folder:
        assert folder.parent == Path(cache.folder)
        assert contents(folder) == contents(small_shards)


# -- what fails --------------------------------------------------------------------------------------------------------

def test_storage_that_fails_at_times(root: Path, faults: Faults, cache: CacheParams,
                                     capfd: pytest.CaptureFixture) -> None:
    faults.failures = {MANIFEST: [LOST], first_tar(root / "small").name: [LOST] * (storage.ATTEMPTS - 1)}
    with local_shards("far://small", cache) as folder:
        ShardFolder(folder).verify()
    assert "the line is dead; next attempt in 0.001 s" in capfd.readouterr().err


def test_storage_that_keeps_failing(root: Path, faults: Faults, cache: CacheParams) -> None:
    tar = first_tar(root / "small").name
    faults.failures = {tar: [LOST] * storage.ATTEMPTS}
    with (pytest.raises(StorageError, match=rf"far://small/{re.escape(tar)}: gave up after 4 attempts: .*the line is "
                                            "dead; check that this node sees it"), local_shards("far://small", cache)):
        pass
    version = next(Path(cache.folder).glob("small-*"))
    assert not (version / tar).exists() and not list(version.glob("*.part"))
    with local_shards("far://small", cache) as folder:
        ShardFolder(folder).verify()


def test_a_connection_that_ends_early(faults: Faults, cache: CacheParams) -> None:
    faults.cut = 20_000
    with pytest.raises(StorageError, match=r"the connection ended after 20,000 of [\d,]+ bytes"):
        with local_shards("far://small", cache):
            pass


def test_nothing_there(faults: Faults, cache: CacheParams) -> None:
    with (pytest.raises(StorageError, match=r"far://large/dataset\.json: no such file; does this node see it"),
          local_shards("far://large", cache)):
        pass


def test_a_shard_that_is_not_what_the_manifest_says(root: Path, faults: Faults, cache: CacheParams) -> None:
    tar = first_tar(root / "small")
    content = bytearray(tar.read_bytes())
    content[700] ^= 1
    tar.write_bytes(content)
    with (pytest.raises(ChangedError, match=rf"{re.escape(tar.name)}: SHA-256 [0-9a-f]+, but dataset.json says"),
          local_shards("far://small", cache)):
        pass
    tar.write_bytes(content[:700])
    with (pytest.raises(ChangedError, match=rf"{re.escape(tar.name)}: 700 bytes, but dataset.json says"),
          local_shards("far://small", cache)):
        pass
    assert not list(Path(cache.folder).rglob(f"{tar.name}*"))


def test_a_dataset_made_anew_while_it_is_fetched(root: Path, faults: Faults, cache: CacheParams,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    tar, fetch_all = first_tar(root / "small"), shard_cache._fetch_all

    def with_news(*args: object) -> None:
        tar.write_bytes(tar.read_bytes()[::-1])
        (root / "small" / MANIFEST).write_text((root / "small" / MANIFEST).read_text() + "\n")
        fetch_all(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(shard_cache, "_fetch_all", with_news)
    with pytest.raises(ChangedError, match="far://small was made anew while it was fetched: run the same"):
        with local_shards("far://small", cache):
            pass


def test_versions_do_not_mix(root: Path, faults: Faults, cache: CacheParams) -> None:
    with local_shards("far://small", cache) as old:
        (root / "small" / MANIFEST).write_text((root / "small" / MANIFEST).read_text() + "\n")
        with local_shards("far://small", cache) as new:
            assert new != old
            ShardFolder(old).verify()
            ShardFolder(new).verify()


def test_a_disk_that_fills_up_while_shards_come(root: Path, faults: Faults, cache: CacheParams) -> None:
    faults.failures = {first_tar(root / "small").name: [OSError(errno.ENOSPC, "No space left on device")]}
    with (pytest.raises(OSError, match="No space left on device while shards of far://small were fetched; what was "
                                       "under way is removed; free some space") as full,
          local_shards("far://small", cache)):
        pass
    assert full.value.errno == errno.ENOSPC
    assert not list(Path(cache.folder).rglob("*.part"))


def test_a_small_disk(root: Path, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(disk)]).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        cache = CacheParams(folder=str(disk / "cache"), gib=1)
        needed = total_size(root / "small")
        with (pytest.raises(StorageError, match=rf"{needed:,} bytes are to be fetched, and the disk of .* has [\d,]+;"),
              local_shards("far://small", cache)):
            pass
        assert not faults.opened(".tar")
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=GIB))  # others fill it meanwhile
        with pytest.raises(OSError, match="No space left on device while shards"), local_shards("far://small", cache):
            pass
        assert not list(disk.rglob("*.part"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# -- several processes -------------------------------------------------------------------------------------------------

@contextmanager
def process(root: Path, cache: CacheParams, log: Path, seconds: float = 0.0) -> Iterator[subprocess.Popen]:
    """Brings `far://small` to the cache, says "ready", and uses it until the block ends."""
    command = [sys.executable, str(TESTS / "fetching_process.py"), str(root), "small", cache.folder,
               str(cache.gib), str(log), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            yield running
        finally:
            running.kill()


def ready(running: subprocess.Popen) -> bool:
    assert running.stdout
    return running.stdout.readline() == b"ready\n"


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_processes_fetch_each_shard_once(root: Path, cache: CacheParams, tmp_path: Path) -> None:
    log = tmp_path / "opened.log"
    with process(root, cache, log, 0.05) as one, process(root, cache, log, 0.05) as other:
        assert ready(one) and ready(other)
    opened = [name for name in log.read_text().splitlines() if name.endswith(".tar")]
    assert sorted(opened) == sorted(path.name for path in root.glob("small/*.tar"))


@pytest.mark.parametrize("num_whole", [0, 2])
def test_killed_while_fetching(root: Path, faults: Faults, cache: CacheParams, num_whole: int) -> None:
    tars = {path.name: path.read_bytes() for path in root.glob("small/*.tar")}
    with process(root, cache, faults.log, 0.1) as running:
        wait_for(lambda: list(Path(cache.folder).glob("*/*.tar.part"))
                 and len(list(Path(cache.folder).glob("*/*.tar"))) >= num_whole)
        running.send_signal(signal.SIGKILL)
        running.wait()
    version = next(Path(cache.folder).glob("small-*"))
    found = {path.name: path.read_bytes() for path in version.glob("*.tar")}
    assert num_whole <= len(found) < len(tars)
    assert all(tars[name] == content for name, content in found.items())
    faults.log.unlink()
    with local_shards("far://small", cache) as folder:
        assert contents(folder) == contents(root / "small")
    assert not set(faults.opened()) & set(found)


def test_shards_in_use_stay_until_their_user_is_gone(root: Path, faults: Faults, cache: CacheParams) -> None:
    rename(root / "small", "other")
    cache = CacheParams(folder=cache.folder, gib=1.5 * total_size(root / "small") / GIB)
    with process(root, cache, faults.log) as running:
        assert ready(running)
        before = contents(next(Path(cache.folder).glob("small-*")))
        with (pytest.raises(StorageError, match=r"[\d,]+ of the [\d,]+ of cluster.cache.gib are in use by running"),
              local_shards("far://other", cache)):
            pass
        assert contents(next(Path(cache.folder).glob("small-*"))) == before
        running.send_signal(signal.SIGKILL)
        running.wait()
    with local_shards("far://other", cache) as folder:
        ShardFolder(folder).verify()


# -- room --------------------------------------------------------------------------------------------------------------

def test_more_than_the_bound_is_refused_before_anything_comes(root: Path, faults: Faults, cache: CacheParams) -> None:
    size = total_size(root / "small")
    cache = CacheParams(folder=cache.folder, gib=(size - 1) / GIB)
    with (pytest.raises(StorageError, match=rf"far://small: {size:,} bytes of shards are needed at once, and "
                                            r"cluster.cache.gib is [\d.e-]+ \([\d,]+ bytes\); raise it"),
          local_shards("far://small", cache)):
        pass
    assert faults.opened() == [MANIFEST]
    with local_shards("far://small", CacheParams(folder=cache.folder, gib=size / GIB)) as folder:
        ShardFolder(folder).verify()


def test_the_least_recently_used_goes_first(root: Path, faults: Faults, cache: CacheParams) -> None:
    """Random uses of groups of three datasets, against the order of use kept by hand."""
    names = ("small", "second", "third")
    for name in names[1:]:
        rename(root / "small", name)
    manifest = ShardFolder(root / "small").manifest
    groups = sorted({entry.group for entry in manifest.shards})
    cache = CacheParams(folder=cache.folder, gib=1.3 * total_size(root / "small") / GIB)
    slack = max(map(size_of, root.glob("small/*.tar"))) + 2 * size_of(root / "small" / INDEX)
    used_at: dict[tuple[str, str], int] = {}
    random, removals = np.random.default_rng(0), 0
    for now in range(25):
        name, wanted = names[random.integers(3)], set(random.choice(groups, 3, replace=False))
        before = cached(cache)
        used_at |= {(name, group): now for group in wanted}
        with local_shards(f"far://{name}", cache, wanted) as folder:
            ShardFolder(folder).verify(wanted)
            after = cached(cache)
        removed, kept = before - after, {(owner, file) for owner, file in before & after if owner != name}
        assert total_size(Path(cache.folder)) <= cache.gib * GIB
        assert not any(owner == name and group_of(file) in wanted for owner, file in removed)
        for owner, file in removed:
            assert all(used_at[owner, group_of(file)] <= used_at[other, group_of(stays)] for other, stays in kept)
        if any(owner == name for owner, _ in removed):
            assert not kept  # this version's own other groups only go when nothing else can
        assert not removed or total_size(Path(cache.folder)) + slack > cache.gib * GIB  # no more than is needed
        removals += len(removed)
    assert removals > 20


def cached(cache: CacheParams) -> set[tuple[str, str]]:
    """Dataset and file name of every shard in the cache."""
    return {(path.parent.name.rpartition("-")[0], path.name) for path in Path(cache.folder).glob("*/*.tar")}


def group_of(file: str) -> str:
    return file.rpartition("-")[0]


def test_a_fetch_of_another_process_that_ends_meanwhile(root: Path, faults: Faults, cache: CacheParams,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `.part` gets its own name after it was listed, and still counts."""
    part, unit_of = Path(cache.folder, "other-1", "x-000000.tar.part"), shard_cache._unit_of
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1000))

    def rename_it(name: str) -> str:
        if name == part.name and part.exists():
            part.rename(part.with_suffix(""))
        return unit_of(name)

    monkeypatch.setattr(shard_cache, "_unit_of", rename_it)
    size = total_size(root / "small")
    with (pytest.raises(StorageError, match=rf"{size:,} bytes are to be fetched, and 1,000 of the"),
          local_shards("far://small", CacheParams(folder=cache.folder, gib=(size + 999) / GIB))):
        pass


def test_a_version_that_is_gone_leaves_no_folder(root: Path, faults: Faults, cache: CacheParams) -> None:
    rename(root / "small", "other")
    cache = CacheParams(folder=cache.folder, gib=total_size(root / "other") / GIB)
    for name in ("small", "other"):
        with local_shards(f"far://{name}", cache) as folder:
            ShardFolder(folder).verify()
    assert [path.name for path in Path(cache.folder).glob("*/")] == [folder.name]


@pytest.mark.parametrize(("values", "text"), [
    ({"folder": "cache", "gib": 1}, "folder is 'cache'; it must be an absolute path, the same on every node"),
    ({"folder": "/cache", "gib": 0}, "gib is 0; it must be more than 0")])
def test_parameters(values: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        CacheParams(**values)


# -- publishing --------------------------------------------------------------------------------------------------------

def test_what_is_published_is_the_dataset(small_shards: Path, tmp_path: Path) -> None:
    address = upload_shards(ShardFolder(small_shards), f"file://{tmp_path}/nfs/shards")
    assert address == f"file://{tmp_path}/nfs/shards/small-{ShardFolder(small_shards).sha256[:16]}"
    with local_shards(address, None) as folder:
        assert contents(folder) == contents(small_shards)


def test_publishing_goes_on_where_it_was_interrupted(small_shards: Path, root: Path, faults: Faults,
                                                     cache: CacheParams) -> None:
    tars = sorted(path.name for path in small_shards.glob("*.tar"))
    faults.failures = {tars[2]: [LOST] * storage.ATTEMPTS}
    with pytest.raises(StorageError, match=rf"{re.escape(tars[2])}: gave up after 4 attempts: .*the line is dead"):
        upload_shards(ShardFolder(small_shards), "far://shards")
    version = next(root.glob("shards/small-*"))
    assert sorted(path.name for path in version.iterdir()) == tars[:2]  # no manifest: nobody takes it for whole
    cut, kept = version / tars[0], (version / tars[1]).stat().st_mtime_ns
    cut.write_bytes(cut.read_bytes()[:1000])  # an upload that a kill cut short
    address = upload_shards(ShardFolder(small_shards), "far://shards")
    assert contents(version) == contents(small_shards)
    assert (version / tars[1]).stat().st_mtime_ns == kept
    stamps = {path: path.stat().st_mtime_ns for path in version.iterdir()}
    assert upload_shards(ShardFolder(small_shards), "far://shards") == address
    assert {path: path.stat().st_mtime_ns for path in version.iterdir()} == stamps
    with local_shards(address, cache) as folder:
        ShardFolder(folder).verify()


def test_an_edited_shard_is_not_published(root: Path, tmp_path: Path) -> None:
    tar = first_tar(root / "small")
    tar.write_bytes(tar.read_bytes()[::-1])
    with pytest.raises(ValueError, match=rf"{re.escape(tar.name)}: edited after it was written: SHA-256"):
        upload_shards(ShardFolder(root / "small"), str(tmp_path / "nfs"))
    assert not list(tmp_path.rglob(f"nfs/*/{tar.name}*")) and not list(tmp_path.rglob(f"nfs/*/{MANIFEST}"))


# -- addresses ---------------------------------------------------------------------------------------------------------

def test_addresses_of_object_stores() -> None:
    options = "region=eu-west-1&endpoint_override=127.0.0.1:1&scheme=http"
    bucket = location_of(f"s3://bucket/matchnet?{options}")
    assert (bucket.path, bucket.filesystem.type_name) == ("bucket/matchnet", "s3")
    assert (bucket / "a" / "b").address == f"s3://bucket/matchnet/a/b?{options}"
    assert location_of((bucket / "a" / "b").address).path == (bucket / "a" / "b").path == "bucket/matchnet/a/b"
    assert (location_of("gs://anonymous@bucket/matchnet") / "a").path == "bucket/matchnet/a"


def test_an_address_of_no_known_storage() -> None:
    with pytest.raises(StorageError, match=r"ftp://host/x: .*; write a path that all nodes see, or s3://bucket/folder"):
        location_of("ftp://host/x")


def test_an_object_store_that_is_not_reached_says_which_credentials_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "ATTEMPTS", 1)
    location = location_of("gs://anonymous@bucket/x?endpoint_override=127.0.0.1:1&scheme=http&retry_limit_seconds=0.1")
    with pytest.raises(StorageError, match=r"gave up after 1 attempts: .* every node, GOOGLE_APPLICATION_CREDENTIALS"):
        location.read()


def test_a_damaged_manifest_is_named_without_the_credentials_of_its_storage(root: Path, cache: CacheParams,
                                                                            faults: Faults) -> None:
    (root / "ann:secret@host").symlink_to(root)
    (root / "small" / MANIFEST).write_text("[]")
    with pytest.raises(ValueError, match=r"^far://host/small/dataset\.json: not a manifest"), \
            local_shards("far://ann:secret@host/small", cache):
        pass
