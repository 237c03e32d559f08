"""Shards on this node's disk, brought from storage that all nodes see: fetched once a node, verified, bounded in size.

    <folder>/.lock                        held for moments: whoever decides which files come and go
    <folder>/omniglot-0f3a.../            one version of a dataset, named by its manifest's SHA-256
        .fetching                         held by the process that fetches this version
        <group>.use                       shared by the processes that use the group; its time is that of the last use
        dataset.json, index.parquet, <group>-000000.tar, ...

All locks are flocks: they end with the process that holds them, however it ends.
"""

import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import LocalFileSystem

from matchnet.files import FULL_DISK
from pipeline.data.formats.word_table import WORDS
from pipeline.data.shards.index import INDEX
from pipeline.data.shards.manifest import MANIFEST, Manifest, parse_manifest
from pipeline.system.progress import Progress, say
from pipeline.system.storage import Location, StorageError, location_of, patiently

AGAIN = "make the shards again, or remove that folder if it is a published copy, and run the same command again"
GIB = 2**30
BLOCK = 1 << 20
FETCHES_AT_ONCE = 4  # one stream from an object store is slower than the network
TABLES = "tables"  # the unit of the manifest, the index and the words, which all who use a version need


@dataclass(frozen=True, kw_only=True)
class CacheParams:
    """Where each node keeps copies of shards, on a disk of its own.

    Args:
        folder: where the copies lie, the same path on every node.
        gib: how much room all copies may take together. Those used least recently make room for others.
    """

    folder: str
    gib: float

    def __post_init__(self) -> None:
        if not Path(self.folder).is_absolute():
            raise ValueError(f"folder is {self.folder!r}; it must be an absolute path, the same on every node")
        if self.gib <= 0:
            raise ValueError(f"gib is {self.gib}; it must be more than 0")


class ChangedError(StorageError):
    """A file on the storage has other bytes than the manifest says."""


@dataclass(frozen=True)
class _File:
    """One file of a version; `unit` is the group, or TABLES, whose use keeps it in the cache."""

    name: str
    unit: str
    size: int
    sha256: str


def version_name(manifest: Manifest, manifest_sha256: str) -> str:
    """The folder of one version of a dataset; no two versions share one."""
    return f"{manifest.name}-{manifest_sha256[:16]}"


@contextmanager
def local_shards(address: str, cache: CacheParams | None, groups: Collection[str] | None = None) -> Iterator[Path]:
    """A folder on this machine with a dataset's manifest, index and shards, while the block lasts.

    Args:
        address: the dataset's folder: a path that this node sees, or an address such as `s3://bucket/shards/omniglot`.
        cache: None reads the folder where it is, which has to be a path.
        groups: the groups whose shards are needed; None is all. Other shards may be missing in the folder.
    Raises:
        StorageError: the storage fails again and again, a file there is not what the manifest says, or what is needed
            does not fit into the cache. Each names the file.
        OSError: this node's disk is full; what was under way is removed.
    """
    source = location_of(address)
    if cache is None:
        if not isinstance(source.filesystem, LocalFileSystem):
            raise StorageError(f"{source}: shards at an address are read through copies on each node's disk; "
                               "set cluster.cache")
        yield Path(source.path)
        return
    content = (source / MANIFEST).read()
    manifest = parse_manifest(content, str(source / MANIFEST))
    version = Path(cache.folder) / version_name(manifest, hashlib.sha256(content).hexdigest())
    files = _wanted(source, manifest, content, groups)
    with _in_use(cache, version, {file.unit for file in files}):
        _bring(source, files, version, cache, content)
        yield version


def _wanted(source: Location, manifest: Manifest, content: bytes, groups: Collection[str] | None) -> list[_File]:
    unknown = sorted(set(groups or ()) - {entry.group for entry in manifest.shards})
    if unknown:
        raise ValueError(f"groups: {unknown[0]!r} is not a group of {manifest.name} at {source}")
    tables = {INDEX: manifest.index_sha256} | ({WORDS: manifest.words.sha256} if manifest.words else {})
    return [_File(MANIFEST, TABLES, len(content), hashlib.sha256(content).hexdigest()),
            *(_File(name, TABLES, _size_of(source / name), sha256) for name, sha256 in tables.items()),
            *(_File(entry.name, entry.group, entry.size, entry.sha256) for entry in manifest.shards
              if groups is None or entry.group in groups)]


def _size_of(location: Location) -> int:
    size = location.size()
    if size is None:
        raise ChangedError(f"{location}: no such file, though the manifest names it; {AGAIN}")
    return size


# -- locks -----------------------------------------------------------------------------------------------------------

@contextmanager
def _locked(path: Path, kind: int, waiting: str = "") -> Iterator[None]:
    """Hold an flock on `path` until the block or the process ends; `waiting` is said if another process holds it."""
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                say(waiting)
            fcntl.flock(file, kind)
        yield


@contextmanager
def _deciding(cache: CacheParams) -> Iterator[None]:
    with _locked(Path(cache.folder) / ".lock", fcntl.LOCK_EX):
        yield


@contextmanager
def _in_use(cache: CacheParams, version: Path, units: Collection[str]) -> Iterator[None]:
    """Keep the files of these units from being removed while the block lasts."""
    with ExitStack() as uses:
        Path(cache.folder).mkdir(parents=True, exist_ok=True)
        with _deciding(cache):
            version.mkdir(exist_ok=True)
            for unit in units:
                uses.enter_context(_locked(_use_of(version, unit), fcntl.LOCK_SH))
                os.utime(_use_of(version, unit))
        yield


def _use_of(version: Path, unit: str) -> Path:
    return version / f"{unit}.use"


def _is_used(use: Path) -> bool:
    with open(use, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# -- fetching --------------------------------------------------------------------------------------------------------

def _bring(source: Location, files: list[_File], version: Path, cache: CacheParams, manifest: bytes) -> None:
    waiting = f"{version}: another process of this node fetches it; waiting"
    with _locked(version / ".fetching", fcntl.LOCK_EX, waiting):
        missing = [file for file in files if not _is_whole(version / file.name, file.size)]
        if not missing:
            return
        for part in version.glob("*.part"):  # left by a process that was killed
            part.unlink()
        with _deciding(cache):
            _make_room(cache, source, sum(file.size for file in files), sum(file.size for file in missing), version)
            for file in missing:
                with open(_part_of(version, file), "wb") as part_file:
                    part_file.truncate(file.size)  # counts against the bound from now on
        try:
            _fetch_all(source, missing, version)
        except BaseException as error:
            for part in version.glob("*.part"):
                part.unlink()
            if explained := _explained(error, source, version, manifest):
                raise explained from error
            raise


def _is_whole(path: Path, size: int) -> bool:
    """A file under its own name was verified when it came."""
    return path.is_file() and path.stat().st_size == size


def _part_of(version: Path, file: _File) -> Path:
    return version / f"{file.name}.part"


def _explained(error: BaseException, source: Location, version: Path, manifest: bytes) -> Exception | None:
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return OSError(error.errno, f"{version}: {error.strerror} while shards of {source} were fetched; what "
                       "was under way is removed; free some space, or set cluster.cache.folder to another disk")
    if isinstance(error, ChangedError) and (source / MANIFEST).read() != manifest:
        return ChangedError(f"{error}\n{source} was made anew while it was fetched: run the same command again")
    return None


class _GivenUpError(Exception):
    """Another file could not be fetched."""


def _fetch_all(source: Location, files: list[_File], version: Path) -> None:
    stop, one_at_a_time = threading.Event(), threading.Lock()
    with Progress(f"fetching {version.name}", sum(file.size for file in files), "B") as progress:

        def advance(count: int) -> None:
            if stop.is_set():
                raise _GivenUpError
            with one_at_a_time:
                progress.advance(count)

        pool = ThreadPoolExecutor(FETCHES_AT_ONCE)
        try:
            futures = [pool.submit(_fetch, source / file.name, file, version, advance) for file in files]
            for future in as_completed(futures):
                future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _fetch(source: Location, file: _File, version: Path, advance: Callable[[int], None]) -> None:
    """Fetch one file: into its `.part`, compared with its SHA-256, synced, renamed."""
    part = _part_of(version, file)
    found = patiently(source.address, lambda: _copy(source, part, file.size, advance))
    if found != file.sha256:
        raise ChangedError(f"{source}: SHA-256 {found}, but dataset.json says {file.sha256}: edited after it "
                           f"was written; {AGAIN}")
    part.chmod(0o444)
    os.replace(part, version / file.name)


def _copy(source: Location, part: Path, size: int, advance: Callable[[int], None]) -> str:
    """Copy a file; return the SHA-256 of the copied bytes."""
    digest, done = hashlib.sha256(), 0
    try:
        with source.filesystem.open_input_stream(source.path) as stream, open(part, "r+b") as file:
            while block := stream.read(BLOCK):
                file.write(block)
                digest.update(block)
                done += len(block)
                advance(len(block))
            file.flush()
            os.fsync(file.fileno())
        if done != size:
            _refuse_size(source, done, size)
    except OSError:
        advance(-done)  # the next attempt begins anew
        raise
    return digest.hexdigest()


def _refuse_size(source: Location, done: int, size: int) -> None:
    there = source.size()
    if there != size:
        raise ChangedError(f"{source}: {there or 0:,} bytes, but dataset.json says {size:,}: cut short or "
                           f"edited after it was written; {AGAIN}")
    raise OSError(f"the connection ended after {done:,} of {size:,} bytes")


# -- room ------------------------------------------------------------------------------------------------------------

def _make_room(cache: CacheParams, source: Location, wanted: int, missing: int, version: Path) -> None:
    """Remove files that nobody uses, those of other versions first, the least recently used first.

    Raises:
        StorageError: `missing` more bytes do not fit, whatever is removed; then nothing is.
    """
    bound = int(cache.gib * GIB)
    if wanted > bound:
        raise StorageError(f"{source}: {wanted:,} bytes of shards are needed at once, and cluster.cache.gib is "
                           f"{cache.gib:g} ({bound:,} bytes); raise it")
    held = _held(Path(cache.folder))
    taken, free = sum(stat.st_size for stat in held.values()), _free(cache, held)
    removable = _removable(held, version)
    can_go = sum(held[path].st_size for path in removable)
    if taken - can_go + missing > bound:
        raise StorageError(f"{source}: {missing:,} bytes are to be fetched, and {taken - can_go:,} of the "
                           f"{bound:,} of cluster.cache.gib are in use by running processes; raise it or wait for them")
    if free + can_go < missing:
        raise StorageError(f"{source}: {missing:,} bytes are to be fetched, and the disk of {cache.folder} has "
                           f"{free + can_go:,}; free some space, or set cluster.cache.folder to another disk")
    for path in removable:
        if taken + missing <= bound and free >= missing:
            break
        taken, free = taken - held[path].st_size, free + held[path].st_size
        path.unlink(missing_ok=True)
    _remove_empty(Path(cache.folder))


def _held(folder: Path) -> dict[Path, os.stat_result]:
    """All files but the locks. Other processes go on fetching meanwhile: a `.part` may have got its own name."""
    held = {}
    for path in folder.glob("*/*"):
        for name in (path.name, path.name.removesuffix(".part")) if _unit_of(path.name) else ():
            with suppress(FileNotFoundError):
                held[path.with_name(name)] = path.with_name(name).stat()
                break
    return held


def _unit_of(name: str) -> str:
    """The unit of a file by its name; "" for a lock."""
    shard = re.fullmatch(r"(.+)-\d{6}\.tar(\.part)?", name)
    if shard:
        return shard[1]
    return "" if name == ".fetching" or name.endswith(".use") else TABLES


def _removable(held: Collection[Path], version: Path) -> list[Path]:
    use_of = {path: _use_of(path.parent, _unit_of(path.name)) for path in held}
    last_use = {use: use.stat().st_mtime_ns for use in set(use_of.values()) if use.exists() and not _is_used(use)}
    return sorted((path for path in held if use_of[path] in last_use),
                  key=lambda path: (path.parent == version, last_use[use_of[path]], path))


def _free(cache: CacheParams, held: Mapping[Path, os.stat_result]) -> int:
    """Bytes of the disk that are neither taken nor reserved by files that are being fetched."""
    parts = [stat for path, stat in held.items() if path.suffix == ".part"]
    return shutil.disk_usage(cache.folder).free - sum(max(0, stat.st_size - stat.st_blocks * 512) for stat in parts)


def _remove_empty(folder: Path) -> None:
    """Remove the folders of versions that have nothing but unheld locks."""
    for version in folder.glob("*/"):
        names = [path.name for path in version.iterdir()]
        if not any(map(_unit_of, names)) and not any(_is_used(version / name) for name in names):
            shutil.rmtree(version)
