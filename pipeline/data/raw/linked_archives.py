"""Archives behind an account (ILSVRC2012): named by the user, verified where they lie, never copied on this machine.

They do not lie in a dataset's raw folder, because DVC stores that folder: it would store a copy of 138 GiB, and would
replace a link in the folder by another link. Beside the raw folders, in `.archives`, lie
    <dataset>/<file>             a link to the archive, whatever folder it is in
    <checksum>/<file>            what came from an address: once, however many datasets are made of it
    <digest>/photographs.tar     what was packed of a file or folder with this digest, likewise
    listings/<SHA-256>.parquet   what is where in the archive with these bytes: listed once, likewise
    verified.json                path -> size, mtime and checksums as they were read: not read again until it changes
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from matchnet.files import atomic_write
from pipeline.data.raw.fetch_file import DownloadError, checksums_of, fetch_file, is_address
from pipeline.data.raw.registry import RawFile

FOLDER, LISTINGS, VERIFIED = ".archives", "listings", "verified.json"


@dataclass(frozen=True)
class _Entry:
    """A file as it was when its bytes were read; kind -> checksum."""

    size: int
    mtime_ns: int
    checksums: dict[str, str]


_RECORD = TypeAdapter(dict[str, _Entry])


def archive_path(raw_dir: Path, name: str) -> Path:
    """Path at which a dataset finds an archive: the link that `link_archive` has made."""
    return raw_dir.parent / FOLDER / raw_dir.name / name


def listing_path(raw_dir: Path, names: Sequence[str]) -> Path:
    """Path of the listing of archives with these bytes, shared by all datasets that are made of them."""
    sha256s = [_sha256_of(raw_dir, name).removeprefix("sha256:") for name in names]
    return raw_dir.parent / FOLDER / LISTINGS / f"{'-'.join(sha256s)}.parquet"


def link_archive(archive: RawFile, origin: str, checksum: str, raw_dir: Path) -> str:
    """Verify the archive at `origin` (a path, or an http(s) address to download it from) and link it for the dataset.

    Returns:
        `sha256:<hex>` of its bytes.
    Raises:
        DownloadError: not there, or other bytes than `checksum` (`md5:<hex>` or `sha256:<hex>`) says.
        OSError: the disk is full, ...
    """
    store = raw_dir.parent / FOLDER
    if is_address(origin):
        path = _absolute(store / checksum.rpartition(":")[2] / archive.name)
        found = _download(store, origin, path, checksum, archive.most_bytes)
    else:
        path = _absolute(Path(origin))
        found = _verify(store, path, checksum, archive.size if checksum == archive.checksum else 0)
    _link(archive_path(raw_dir, archive.name), path)
    return found["sha256"]


def link_packed(origin: Path, name: str, pack: Callable[[Path, Path], None], raw_dir: Path) -> str:
    """Link the file `name` that `pack(origin, target)` makes of a file or folder; made once, until the origin changes.

    Returns:
        `sha256:<hex>` of its bytes.
    """
    store = raw_dir.parent / FOLDER
    path = _absolute(store / _digest_of(store, _absolute(origin)) / name)
    found = _known_checksums(store, path)
    if not found:
        pack(origin, path)
        found = _read(store, path, {"sha256"})
    _link(archive_path(raw_dir, name), path)
    return found["sha256"]


def link_origin(origin: Path, name: str, raw_dir: Path) -> None:
    """Link a file or folder that is read where it lies, for `archive_path` to find."""
    _link(archive_path(raw_dir, name), _absolute(origin))


def check_unchanged(raw_dir: Path, name: str, listed: str | None) -> None:
    """Raises ValueError unless a dataset's archive is, by size and time, the file that was verified.

    Args:
        listed: `sha256:<hex>` of what the raw folder was made of; None where no download recorded that (a benchmark).
    """
    link = archive_path(raw_dir, name)
    remedy = f"run the download stage again: python -m stages.download {raw_dir.name}"
    if not link.is_file():
        raise ValueError(f"{link}: no such file: ImageNet's archive is not linked there, or has been moved; {remedy}")
    store, path = raw_dir.parent / FOLDER, linked_to(link)
    known = _known_checksums(store, path)
    if not known:
        raise ValueError(f"{path}: written to or replaced since it was verified: its {path.stat().st_size:,} bytes or "
                         f"their time are not those in {store / VERIFIED}; {remedy}")
    if listed not in (None, known["sha256"]):
        raise ValueError(f"{path}: {known['sha256']}, but {raw_dir} has the listing of {listed}; {remedy}")


def linked_to(link: Path) -> Path:
    """The archive's own path, as the user named it."""
    return Path(os.readlink(link)) if link.is_symlink() else _absolute(link)


def _absolute(path: Path) -> Path:
    """The absolute path with its links kept: on a cluster, their targets may exist on this machine alone."""
    return Path(os.path.abspath(path))


def _download(store: Path, origin: str, path: Path, checksum: str, most: int | None) -> dict[str, str]:
    """Download the file unless an earlier call has brought it whole; return its checksums by kind."""
    found = _checksums(store, path, checksum) if path.is_file() else {}
    if checksum not in found.values():
        found = fetch_file(origin, path, checksum, ["sha256"], most)
        _remember(store, path, path.stat(), found)
    return found


def _verify(store: Path, path: Path, checksum: str, size: int) -> dict[str, str]:
    """Args: size: bytes of the real one, 0 where that is not known."""
    if not path.is_file():
        raise DownloadError(f"{path}: no such file")
    found_size = path.stat().st_size
    if size and found_size != size:
        raise DownloadError(f"{path}: {found_size:,} bytes, the real one has {size:,}: it came in part, or is another "
                            "file; download it again")
    found = _checksums(store, path, checksum)
    if checksum not in found.values():
        raise DownloadError(f"{path}: wrong checksum: expected {checksum}, found {found[checksum.partition(':')[0]]} "
                            f"in {found_size:,} bytes; download it again")
    return found


def _checksums(store: Path, path: Path, checksum: str) -> dict[str, str]:
    """Kind -> checksum of a file: SHA-256 and the kind of `checksum`. The file is read unless it is known to match."""
    known = _known_checksums(store, path)
    return known if checksum in known.values() else _read(store, path, {"sha256", checksum.partition(":")[0]})


def _digest_of(store: Path, origin: Path) -> str:
    """Digest in hex of a file's bytes, or of the names, sizes and times of all files in a folder."""
    if not origin.is_dir():
        return (_known_checksums(store, origin) or _read(store, origin, {"sha256"}))["sha256"].removeprefix("sha256:")
    digest = hashlib.sha256()
    for path in sorted(origin.rglob("*")):
        status = path.stat()
        digest.update(f"{path.relative_to(origin)}\n{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _sha256_of(raw_dir: Path, name: str) -> str:
    store, path = raw_dir.parent / FOLDER, linked_to(archive_path(raw_dir, name))
    return (_known_checksums(store, path) or _read(store, path, {"sha256"}))["sha256"]


def _read(store: Path, path: Path, kinds: set[str]) -> dict[str, str]:
    status = path.stat()  # before it is read: whoever writes to it meanwhile changes that
    found = checksums_of(path, kinds)
    _remember(store, path, status, found)
    return found


def _known_checksums(store: Path, path: Path) -> dict[str, str]:
    """Kind -> checksum as it was read, if size and time of the file are what they were then."""
    entry = _record(store).get(str(path))
    if entry is None or not path.is_file():
        return {}
    status = path.stat()
    return entry.checksums if (status.st_size, status.st_mtime_ns) == (entry.size, entry.mtime_ns) else {}


def _remember(store: Path, path: Path, status: os.stat_result, checksums: dict[str, str]) -> None:
    record = {**_record(store), str(path): _Entry(status.st_size, status.st_mtime_ns, checksums)}
    with atomic_write(store / VERIFIED, "wb") as file:
        file.write(_RECORD.dump_json(dict(sorted(record.items())), indent=1))


def _record(store: Path) -> dict[str, _Entry]:
    """The record of verified files; empty if it cannot be read, so that files are read once more."""
    try:
        return _RECORD.validate_json((store / VERIFIED).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}


def _link(link: Path, path: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    new = link.with_name(f"{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(path)
    os.replace(new, link)
