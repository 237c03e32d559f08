"""Parquet files of ours: each says in its metadata what it is made as, and another one is not taken for it."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from matchnet.messages import said, shortened


def read_table(path: Path, key: bytes, expected: str, what: str, remedy: str, sha256: str | None = None) -> pa.Table:
    """The table of a file.

    Args:
        key: a key of the metadata; `expected` is the value it must have (a format's version).
        what: the table's name in messages; `remedy`: how it is made again.
        sha256: hex of the file's bytes; None if it is not known.
    Raises:
        ValueError: not there, not Parquet, of other bytes, or made as something else.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; {remedy}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 not in (None, found):
        raise ValueError(f"{path}: edited after it was written: SHA-256 {found}, dataset.json says {sha256}; {remedy}")
    try:
        table = pq.read_table(pa.BufferReader(content))
    except Exception as error:  # pyarrow raises errors of several kinds for damaged bytes
        raise ValueError(f"{path}: not a whole Parquet file ({said(error)}); {remedy}") from error
    version = (table.schema.metadata or {}).get(key, b"none").decode(errors="replace")
    if version != expected:
        raise ValueError(f"{path}: {what} of format {shortened(version)}, but this program reads format {expected}; "
                         f"{remedy}")
    return table
