"""Archives from elsewhere: members listed with suspicion and read in bounded pieces; each error names both."""

import gzip
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from matchnet.messages import said, shown
from pipeline.data.raw.source import RawSample, ReadSample

AGAIN = "fetch the archive again: delete it and run the download"
MOST_BYTES = 1 << 20  # bytes of a member: a drawing has 600, a file of the Treebank's trees at most 131,508
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # methods that zipfile reads in bounded pieces


def list_zip(archive: Path) -> list[zipfile.ZipInfo]:
    """The files of a zip, in its order, without folders.

    Raises:
        ValueError: no such archive, cut short, or a member that is unsafe (`../`, absolute, a link), doubled, an image
            of 0 bytes, or larger than a member can be.
    """
    with _open(archive) as opened:
        members = [member for member in opened.infolist() if not member.filename.endswith("/")]
    seen: set[str] = set()
    for member in members:
        _check_member(archive, member, seen)
        seen.add(member.filename)
    return members


def why_unreadable(member: zipfile.ZipInfo) -> str:
    """Why a member cannot be read in bounded pieces, for a message; empty if it can."""
    if member.flag_bits & 1:
        return "it is encrypted, and needs a password"
    if member.compress_type not in METHODS:
        return f"it is compressed by method {member.compress_type}, neither stored nor deflated"
    return ""


def check_zip(archive: Path, names: Iterable[str]) -> None:
    """Read these members, for a library that reads them again without a bound; raises as `open_zips` does."""
    with _open(archive) as opened:
        for name in names:
            _read_member(opened, archive, name)


def open_zips(raw_dir: Path) -> ReadSample:
    """A function that gives the bytes of a sample whose `archive` is a zip of raw_dir."""
    opened: dict[str, zipfile.ZipFile] = {}

    def read(sample: RawSample) -> bytes:
        path = raw_dir / sample.archive
        if sample.archive not in opened:
            opened[sample.archive] = _open(path)
        return _read_member(opened[sample.archive], path, sample.member)

    return read


def read_gzip(path: Path, most: int, remedy: str) -> bytes:
    """The unpacked bytes of a gzip file.

    Raises:
        ValueError: no such file, cut short, damaged, or more than `most` bytes in it; ends with the remedy.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run the download first")
    try:
        with gzip.open(path) as file:
            content = file.read(most + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({said(error)}); {remedy}") from error
    if len(content) > most:
        raise ValueError(f"{path}: more than {most:,} bytes come out of its {path.stat().st_size:,}, and it has fewer; "
                         f"{remedy}")
    return content


def _read_member(opened: zipfile.ZipFile, archive: Path, name: str) -> bytes:
    """Read no more of a member than its header says, which may be at most MOST_BYTES, whatever it unpacks to."""
    try:
        size = opened.getinfo(name).file_size
        with opened.open(name) as file:
            content = file.read(min(size, MOST_BYTES) + 1)
    except Exception as error:  # zipfile raises errors of many kinds for damaged bytes
        raise ValueError(f"{archive}: member {shown(name)}: {said(error)}; {AGAIN}") from error
    if len(content) != size:
        raise ValueError(f"{archive}: member {shown(name)}: {len(content):,} bytes, not the {size:,} of its header; "
                         f"{AGAIN}")
    return content


def _open(archive: Path) -> zipfile.ZipFile:
    if not archive.is_file():
        raise ValueError(f"{archive}: no such file; run the download first")
    try:
        return zipfile.ZipFile(archive)
    except PermissionError:
        raise
    except Exception as error:  # zipfile raises errors of many kinds for damaged bytes
        size = archive.stat().st_size
        raise ValueError(f"{archive}: not a whole zip ({said(error)}; {size:,} bytes); {AGAIN}") from error


def _check_member(archive: Path, member: zipfile.ZipInfo, seen: set[str]) -> None:
    name = member.orig_filename
    path = PurePosixPath(name.replace("\\", "/"))
    reason = ""
    if not path.parts or path.is_absolute() or ":" in path.parts[0] or ".." in path.parts or "\0" in name:
        reason = "its path leads out of the archive"
    elif stat.S_ISLNK(member.external_attr >> 16):
        reason = "it is a link"
    elif name in seen:
        reason = "it is there twice"
    elif member.file_size == 0 and path.suffix == ".png":
        reason = "it is an image of 0 bytes"
    elif member.file_size > MOST_BYTES:
        reason = f"it unpacks to {member.file_size:,} bytes, and members of this archive have at most {MOST_BYTES:,}"
    else:
        reason = why_unreadable(member)
    if reason:
        raise ValueError(f"{archive}: member {shown(name)} is refused: {reason}; "
                         "delete the archive and take it from a source that you trust")
