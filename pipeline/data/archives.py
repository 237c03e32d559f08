"""Zip archives from elsewhere: members listed with suspicion, archive and member named in each error."""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pipeline.data.raw import RawSample, ReadSample

AGAIN = "fetch the archive again: delete it and run the download"


def list_zip(archive: Path) -> list[zipfile.ZipInfo]:
    """The files of a zip, in its order, without folders.

    Raises:
        ValueError: no such archive, cut short, or a member that is unsafe (`../`, absolute, a link), doubled
            or an image of 0 bytes.
    """
    with _open(archive) as opened:
        members = [member for member in opened.infolist() if not member.is_dir()]
    seen: set[str] = set()
    for member in members:
        _check_member(archive, member, seen)
        seen.add(member.filename)
    return members


def open_zips(raw_dir: Path) -> ReadSample:
    """A function that gives the bytes of a sample whose `archive` is a zip of raw_dir."""
    opened: dict[str, zipfile.ZipFile] = {}

    def read(sample: RawSample) -> bytes:
        path = raw_dir / sample.archive
        if sample.archive not in opened:
            opened[sample.archive] = _open(path)
        try:
            return opened[sample.archive].read(sample.member)
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
            raise ValueError(f"{path}: member {sample.member}: {error}; {AGAIN}") from error

    return read


def _open(archive: Path) -> zipfile.ZipFile:
    if not archive.is_file():
        raise ValueError(f"{archive}: no such file; run the download first")
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        size = archive.stat().st_size
        raise ValueError(f"{archive}: not a whole zip ({error}; {size:,} bytes); {AGAIN}") from error


def _check_member(archive: Path, member: zipfile.ZipInfo, seen: set[str]) -> None:
    name = member.orig_filename
    path = PurePosixPath(name.replace("\\", "/"))
    reason = ""
    if path.is_absolute() or ":" in path.parts[0] or ".." in path.parts or "\0" in name:
        reason = "its path leads out of the archive"
    elif stat.S_ISLNK(member.external_attr >> 16):
        reason = "it is a link"
    elif name in seen:
        reason = "it is there twice"
    elif member.file_size == 0 and path.suffix == ".png":
        reason = "it is an image of 0 bytes"
    if reason:
        raise ValueError(f"{archive}: member {name!r} is refused: {reason}; "
                         "delete the archive and take it from a source that you trust")
