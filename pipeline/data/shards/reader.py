"""The bytes of samples: the index gives each sample's place, and one `pread` reads it."""

import os
from collections.abc import Collection, Sequence

import numpy as np

from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import Index
from pipeline.system.machine import allow_open_files

NOT_OPEN = -1  # stands for the descriptor of a shard that was not asked for


class OpenShards:
    """Shards of a dataset, open to be read.

    Args:
        groups: the groups whose samples will be read; None is all. Other shards are not opened, and may be missing.
    Raises:
        OSError: a shard is missing, or this process may not have so many files open.
    """

    def __init__(self, shards: ShardFolder, groups: Collection[str] | None = None) -> None:
        self.directory = shards.path
        names = [entry.name for entry in shards.shards_of(groups)]
        try:
            allow_open_files(len(names))
        except OSError as error:
            raise OSError(error.errno, f"{shards}: {error.strerror}; or write a larger shard_size_mib for "
                          f"{shards.manifest.name}, and run the shard stage again") from error
        self._fd_of = {name: os.open(shards.path / name, os.O_RDONLY) for name in names}
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

    def _read_one(self, samples: Index, row: int, place: tuple[int, int, int]) -> bytes:
        """Read a sample that failed among others once more, by itself, so that the error names it."""
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

    def __init__(self, shards: ShardFolder, groups: Collection[str] | None = None) -> None:
        shards.check_sizes(groups)
        self.manifest, self.index = shards.manifest, shards.index
        self._open = OpenShards(shards, groups)

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


def _state(fd: int) -> tuple[int, int]:
    """A value that changes when an open file is written to."""
    stat = os.fstat(fd)
    return stat.st_mtime_ns, stat.st_size
