"""One shard as a WebDataset tar, the same bytes for the same samples wherever and whenever it is written."""

import hashlib
import json
import os
import tarfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from matchnet.files import atomic_write, sha256_of

BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class WrittenShard:
    """What was written: the offset and length of each sample's bytes, the tar's size and SHA-256; and what was odd
    about samples -> how many."""

    fingerprint: str
    sha256: str
    size: int
    offsets: list[int]
    lengths: list[int]
    oddities: dict[str, int] = field(default_factory=dict)

    def is_at(self, path: Path) -> bool:
        """Whether it lies there unharmed; reads it."""
        try:
            return os.path.getsize(path) == self.size and sha256_of(path) == self.sha256
        except OSError:
            return False


class TarWriter:
    """USTAR members with mode 0644, owner 0 and mtime 0; knows where each member's bytes begin."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0
        self.digest = hashlib.sha256()

    def add(self, name: str, content: bytes) -> int:
        """Append a member; returns the offset of its bytes."""
        header = tarfile.TarInfo(name)
        header.size = len(content)
        self._write(header.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
        offset = self.size
        self._write(content)
        self._write(b"\0" * (-len(content) % BLOCK))
        return offset

    def finish(self) -> None:
        """Two empty blocks, and fill the last record, as POSIX has it."""
        self._write(b"\0" * (2 * BLOCK))
        self._write(b"\0" * (-self.size % tarfile.RECORDSIZE))

    def _write(self, content: bytes) -> None:
        self.file.write(content)
        self.digest.update(content)
        self.size += len(content)


def write_note(note: Path, written: WrittenShard) -> None:
    """The note of a finished shard, by which later runs know it again: its own SHA-256, and a line of JSON."""
    text = json.dumps(asdict(written))
    with atomic_write(note) as file:
        file.write(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def read_note(note: Path, fingerprint: str) -> WrittenShard | None:
    """The shard that the note is of, if it was made as the fingerprint says, and nothing has touched the note since."""
    try:
        sha256, _, text = note.read_text(encoding="utf-8").partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() != sha256:
            return None
        written = WrittenShard(**json.loads(text))
    except (OSError, ValueError, TypeError):
        return None
    return written if written.fingerprint == fingerprint else None
