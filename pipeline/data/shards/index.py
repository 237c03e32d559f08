"""The index: one row a sample, in Parquet; with it a sample is one `pread` away."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matchnet.files import atomic_write, sha256_of
from pipeline.data.formats.parquet import read_table
from pipeline.data.formats.word_table import WORDS
from pipeline.data.shards.manifest import Manifest, ShardEntry, read_manifest
from pipeline.system.machine import allow_open_files

FORMAT = "1"
INDEX = "index.parquet"
NOT_OPEN = -1  # in place of the descriptor of a shard that was not asked for
_FORMAT_KEY = b"matchnet.index.format"
_NAMES = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema([("key", pa.string()), ("shard", _NAMES), ("offset", pa.int64()), ("length", pa.int64()),
                    ("class_id", pa.int32()), ("class_name", _NAMES), ("group", _NAMES)],
                   metadata={_FORMAT_KEY: FORMAT.encode()})


@dataclass(frozen=True)
class Index:
    """R rows, sorted by shard and offset; `shard_R` are positions in `shards`."""

    key_R: pa.Array
    shards: list[str]
    shard_R: np.ndarray
    offset_R: np.ndarray
    length_R: np.ndarray
    class_id_R: np.ndarray

    def __len__(self) -> int:
        return len(self.offset_R)

    def take(self, rows: np.ndarray) -> "Index":
        """Of these rows alone, in this order: what a process needs to know to read them."""
        used, shard_R = np.unique(self.shard_R[rows], return_inverse=True)
        return Index(self.key_R.take(pa.array(rows)), [self.shards[shard] for shard in used], shard_R,
                     self.offset_R[rows], self.length_R[rows], self.class_id_R[rows])

    def described(self, row: int) -> str:
        """Shard, key and offset of a row, for messages."""
        return f"shard {self.shards[self.shard_R[row]]}, key {self.key_R[row]}, offset {self.offset_R[row]}"


def write_index(path: Path, columns: dict[str, Sequence]) -> None:
    """Write the columns of `SCHEMA`, zstd-compressed, atomically."""
    arrays = [pa.array(columns[field.name], field.type) for field in SCHEMA]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    with atomic_write(path, "wb") as file:
        pq.write_table(table, file, compression="zstd")


def read_index(path: Path, sha256: str | None = None) -> Index:
    """The rows of an index.

    Args:
        sha256: hex, that the manifest says of it.
    Raises:
        ValueError: no index there, not Parquet, edited, or of another format version.
    """
    table = read_table(Path(path), _FORMAT_KEY, FORMAT, "index", "run the shard stage again", sha256)
    shard = table["shard"].combine_chunks()
    return Index(key_R=table["key"].combine_chunks(), shards=shard.dictionary.to_pylist(),
                 shard_R=shard.indices.to_numpy(), offset_R=table["offset"].to_numpy(),
                 length_R=table["length"].to_numpy(), class_id_R=table["class_id"].to_numpy())


class OpenShards:
    """Shards of a dataset, open to be read.

    Args:
        groups: whose samples will be read; None is all. Shards of others are not opened, and need not be there.
    Raises:
        OSError: a shard is missing, or this process may not have so many files open.
    """

    def __init__(self, directory: Path, manifest: Manifest, groups: Collection[str] | None = None) -> None:
        self.directory = directory
        names = [entry.name for entry in _of_groups(manifest, groups)]
        try:
            allow_open_files(len(names))
        except OSError as error:
            raise OSError(error.errno, f"{directory}: {error.strerror}; or write a larger shard_size_mib for "
                          f"{manifest.name}, and run the shard stage again") from error
        self._fd_of = {name: os.open(directory / name, os.O_RDONLY) for name in names}
        self._state_of = {fd: _state(fd) for fd in self._fd_of.values()}

    def read(self, samples: Index) -> list[bytes]:
        """The bytes of all of them, in their order.

        Raises:
            ValueError: a shard was cut short or written to since it was opened, or its group was not asked for.
            OSError: the disk or the network fails. Both name the shard.
        """
        fd_S = np.array([self._fd_of.get(name, NOT_OPEN) for name in samples.shards], np.int64)
        fds, lengths, offsets = fd_S[samples.shard_R].tolist(), samples.length_R.tolist(), samples.offset_R.tolist()
        try:
            contents = list(map(os.pread, fds, lengths, offsets))
        except OSError:
            contents = [self._read_one(samples, *place) for place in enumerate(zip(fds, lengths, offsets, strict=True))]
        if list(map(len, contents)) != lengths:
            row = next(row for row, content in enumerate(contents) if len(content) != lengths[row])
            found = f"{len(contents[row])} of {lengths[row]} bytes"
            raise ValueError(f"{self.directory}: {samples.described(row)}: {found}; the shard was cut short after it "
                             "was indexed; run the shard stage again")
        changed = next((fd for fd in set(fds) if _state(fd) != self._state_of[fd]), None)
        if changed is not None:
            name = next(name for name, fd in self._fd_of.items() if fd == changed)
            raise ValueError(f"{self.directory / name}: written to while it was read; run the shard stage again, or "
                             "remove it if it is a copy in a cache")
        return contents

    def close(self) -> None:
        for fd in self._fd_of.values():
            os.close(fd)
        self._fd_of = {}

    def __enter__(self) -> "OpenShards":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read_one(self, samples: Index, row: int, place: tuple[int, int, int]) -> bytes:
        """Reads what failed among others once more, by itself, to name it."""
        try:
            return os.pread(*place)
        except OSError as error:
            where = f"{self.directory}: {samples.described(row)}"
            if place[0] == NOT_OPEN:
                raise ValueError(f"{where}: of a group that was not asked for when the shards were opened") from error
            raise OSError(error.errno, f"{where}: {error.strerror}; is the disk, or the network's, still there?"
                          ) from error


class ShardReader:
    """The bytes of samples by their row in the index; the shards stay open.

    Args:
        groups: as of OpenShards.
    Raises (when opened):
        ValueError: a shard is missing or has another size than the manifest says; names the first key lost.
        OSError: this process may not have so many files open.
    """

    def __init__(self, directory: Path, groups: Collection[str] | None = None) -> None:
        self.directory = Path(directory)
        self.manifest = read_manifest(self.directory)
        self.index = read_index(self.directory / INDEX, self.manifest.index_sha256)
        _check_sizes(self.directory, self.manifest, self.index, _of_groups(self.manifest, groups))
        self._open = OpenShards(self.directory, self.manifest, groups)

    def read(self, row: int) -> bytes:
        """The bytes of one sample; raises as `read_many` does."""
        return self.read_many([row])[0]

    def read_many(self, rows: Sequence[int] | np.ndarray) -> list[bytes]:
        """The bytes of many samples, in the order of `rows`; raises as OpenShards.read does."""
        return self._open.read(self.index.take(np.asarray(rows, np.int64)))

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> "ShardReader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def verify_shards(directory: Path, groups: Collection[str] | None = None) -> None:
    """Read everything (of the shards, those of `groups`; None is all) and compare with the manifest.

    Raises:
        ValueError: a shard or the index has other bytes than when it was written; names it.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    expected = {entry.name: entry.sha256 for entry in _of_groups(manifest, groups)} | {INDEX: manifest.index_sha256}
    expected |= {WORDS: manifest.words.sha256} if manifest.words else {}
    for name, sha256 in expected.items():
        path = directory / name
        found = sha256_of(path) if path.is_file() else "no such file"
        if found != sha256:
            raise ValueError(f"{path}: edited after it was written: SHA-256 {found}, the manifest says "
                             f"{sha256}; run the shard stage again")


def _check_sizes(directory: Path, manifest: Manifest, index: Index, wanted: Sequence[ShardEntry]) -> None:
    if len(index) != manifest.num_samples or set(index.shards) != {entry.name for entry in manifest.shards}:
        raise ValueError(f"{directory}: the index has {len(index)} samples in {len(index.shards)} shards, "
                         f"the manifest {manifest.num_samples} in {len(manifest.shards)}; "
                         "run the shard stage again")
    for entry in wanted:
        path = directory / entry.name
        size = path.stat().st_size if path.is_file() else 0
        if size != entry.size:
            in_shard = index.shard_R == index.shards.index(entry.name)
            lost = np.flatnonzero(in_shard & (index.offset_R + index.length_R > size))
            first = f"; the first sample lost is {index.described(lost[0])}" if len(lost) else ""
            raise ValueError(f"{path}: {size:,} bytes, but the manifest says {entry.size:,}: cut short or "
                             f"edited after it was indexed{first}; run the shard stage again")


def _of_groups(manifest: Manifest, groups: Collection[str] | None) -> list[ShardEntry]:
    return [entry for entry in manifest.shards if groups is None or entry.group in groups]


def _state(fd: int) -> tuple[int, int]:
    """Changes when an open file is written to."""
    stat = os.fstat(fd)
    return stat.st_mtime_ns, stat.st_size
