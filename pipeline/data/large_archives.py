"""Archives behind an account (ILSVRC2012): named by the user, verified where they lie, never copied on this machine.

They do not stand in a dataset's raw folder, which DVC stores: it would store a copy of 138 GiB, and where it found a
link in the folder it would put another. Beside the raw folders, in `.archives`, lie
    <dataset>/<file>         a link to the archive, whatever folder it is in
    <checksum>/<file>        what came from an address: once, however many datasets are made of it
    verified.json            path -> size, mtime and checksums of what was verified: not read again until it changes
"""

import json
import os
from pathlib import Path
from typing import Any

from pipeline.data.fetch import DownloadError, checksums_of, fetch, is_address
from pipeline.data.sources import SourceFile
from pipeline.files import atomic_write

FOLDER, VERIFIED = ".archives", "verified.json"


def archive_path(raw_dir: Path, name: str) -> Path:
    """Where a dataset finds an archive: the link that `link_archive` has made."""
    return raw_dir.parent / FOLDER / raw_dir.name / name


def link_archive(archive: SourceFile, place: str, checksum: str, raw_dir: Path) -> str:
    """Verify the archive at `place` (a path, or an http(s) address to download it from) and link it for the dataset.

    Returns:
        `sha256:<hex>` of its bytes.
    Raises:
        DownloadError: not there, or other bytes than `checksum` (`md5:<hex>` or `sha256:<hex>`) says.
        OSError: the disk is full, ...
    """
    store = raw_dir.parent / FOLDER
    size = archive.size or None if checksum == archive.checksum else None
    if is_address(place):
        path = store / checksum.rpartition(":")[2] / archive.name
        if checksum not in _known_checksums(store, path).values():
            fetch(place, path, checksum)
    else:
        path = Path(place).resolve()
        if not path.is_file():
            raise DownloadError(f"{place}: no such file")
    sha256 = _verify(store, path, checksum, size)
    _link(archive_path(raw_dir, archive.name), path)
    return sha256


def _verify(store: Path, path: Path, checksum: str, size: int | None) -> str:
    known = _known_checksums(store, path)
    if checksum not in known.values():
        status = path.stat()
        if size is not None and status.st_size != size:
            raise DownloadError(f"{path}: {status.st_size:,} bytes, the real one has {size:,}: it came in part, or is "
                                "another file; download it again")
        known = checksums_of(path, {"sha256", checksum.partition(":")[0]})
        if checksum not in known.values():
            found = known[checksum.partition(":")[0]]
            raise DownloadError(f"{path}: wrong checksum: expected {checksum}, found {found} in {status.st_size:,} "
                                "bytes; download it again")
        entry = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "checksums": known}
        with atomic_write(store / VERIFIED) as file:
            json.dump({**_record(store), str(path): entry}, file, indent=1, sort_keys=True)
    return known["sha256"]


def _known_checksums(store: Path, path: Path) -> dict[str, str]:
    """Kind -> checksum as it was verified, if size and time of the file are what they were then."""
    entry = _record(store).get(str(path))
    if entry is None or not path.is_file():
        return {}
    status = path.stat()
    return entry["checksums"] if (status.st_size, status.st_mtime_ns) == (entry["size"], entry["mtime_ns"]) else {}


def _record(store: Path) -> dict[str, Any]:
    try:
        return json.loads((store / VERIFIED).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _link(link: Path, path: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    new = link.with_name(f"{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(path.resolve())  # a relative one would be read from the folder that the link is in
    os.replace(new, link)
