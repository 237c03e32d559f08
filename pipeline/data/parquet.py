"""Parquet files of ours: each says in its metadata what it is made as, and another one is not taken for it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_table(path: Path, key: bytes, expected: str, what: str, remedy: str) -> pa.Table:
    """The table of a file.

    Args:
        key: of the metadata; `expected` is what it must say there (a format's version).
        what: the table is called in messages; `remedy`: how it is made again.
    Raises:
        ValueError: not there, not Parquet, or made as something else.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; {remedy}")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a whole Parquet file ({error}); {remedy}") from error
    found = (table.schema.metadata or {}).get(key, b"none").decode()
    if found != expected:
        raise ValueError(f"{path}: {what} of format {found}, but this program reads format {expected}; {remedy}")
    return table
