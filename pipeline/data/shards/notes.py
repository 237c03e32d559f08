"""The note of a finished shard, by which later runs recognise the shard.

Notes lie beside the dataset's folder, in `.notes/<dataset>`, which DVC does not track: what made the shard, and its
SHA-256.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from matchnet.files import atomic_write, sha256_of


@dataclass(frozen=True)
class WrittenShard:
    """A written shard: the offset and length of each sample's bytes, the tar's size and SHA-256.

    oddities: oddity of its samples -> how many.
    """

    fingerprint: str
    sha256: str
    size: int
    offsets: list[int]
    lengths: list[int]
    oddities: dict[str, int] = field(default_factory=dict)

    def is_at(self, path: Path) -> bool:
        """Whether the shard lies at `path` unharmed; reads the file."""
        try:
            return os.path.getsize(path) == self.size and sha256_of(path) == self.sha256
        except OSError:
            return False


def notes_of(out_dir: Path) -> Path:
    """The folder of the notes of finished shards."""
    return out_dir.parent / ".notes" / out_dir.name


def write_note(note: Path, written: WrittenShard) -> None:
    """Write the note: its own SHA-256, and a line of JSON."""
    text = json.dumps(asdict(written))
    with atomic_write(note) as file:
        file.write(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def read_note(note: Path, fingerprint: str) -> WrittenShard | None:
    """The shard in a note, if the fingerprint is the same and the note has not been changed since."""
    try:
        sha256, _, text = note.read_text(encoding="utf-8").partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() != sha256:
            return None
        written = WrittenShard(**json.loads(text))
    except (OSError, ValueError, TypeError):
        return None
    return written if written.fingerprint == fingerprint else None
