"""A tar with the same bytes for the same members, wherever and whenever it is written; WebDataset reads it too."""

import hashlib
import tarfile
from typing import IO

BLOCK = tarfile.BLOCKSIZE


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
        """Write two empty blocks and fill the last record, as POSIX requires."""
        self._write(b"\0" * (2 * BLOCK))
        self._write(b"\0" * (-self.size % tarfile.RECORDSIZE))

    def _write(self, content: bytes) -> None:
        self.file.write(content)
        self.digest.update(content)
        self.size += len(content)
