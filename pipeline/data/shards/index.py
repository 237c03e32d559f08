"""The index: one row a sample, in Parquet; with it a sample is one `pread` away."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matchnet.files import atomic_write
from pipeline.data.formats.parquet import read_table

FORMAT = "1"
INDEX = "index.parquet"
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
        """An index of these rows alone, in this order: all that a process needs to read them."""
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
        sha256: hex, the manifest's for the index.
    Raises:
        ValueError: no index there, not Parquet, edited, or of another format version.
    """
    table = read_table(Path(path), _FORMAT_KEY, FORMAT, "index", "run the shard stage again", sha256)
    shard = table["shard"].combine_chunks()
    return Index(key_R=table["key"].combine_chunks(), shards=shard.dictionary.to_pylist(),
                 shard_R=shard.indices.to_numpy(), offset_R=table["offset"].to_numpy(),
                 length_R=table["length"].to_numpy(), class_id_R=table["class_id"].to_numpy())
