"""Source `folder`: anybody's pictures, `class/picture.png`, in a folder, a zip or a tar. See picture_listing.py."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.raw.readers.picture_files import OTHER_FILES, described, files_of, picture_of
from pipeline.data.raw.readers.picture_listing import (
    Picture,
    extension_of,
    open_raw,
    read_left_out,
    read_oddities,
    read_raw,
    write_listing,
)
from pipeline.data.spec import DatasetParams

__all__ = ["extension_of", "open_raw", "prepare_raw", "read_left_out", "read_oddities", "read_raw"]


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """List the pictures: each is read once."""
    origin = Path(os.path.abspath(params.folder.path))
    others: Counter[str] = Counter()
    classes: set[str] = set()
    write_listing(raw_dir, origin, _find(origin, others, classes), others, lambda: _empty_folders(origin, classes))
    read_raw(raw_dir, params)


def _find(origin: Path, others: Counter[str], classes: set[str]) -> Iterator[Picture]:
    for file in files_of(origin):
        sha256 = picture_of(file, origin)
        if sha256 is None:
            others[OTHER_FILES] += 1
            continue
        parts = [part for part in file.member.split("/") if part not in ("", ".")]
        class_name, slash, name = "/".join(parts).rpartition("/")
        if not slash:
            raise ValueError(f"{described(origin, file.container, file.member)}: a picture that lies in no class's "
                             f"folder; put it into one, such as class/{name}")
        classes.add(class_name)
        stem = name.rpartition(".")[0] or name
        yield Picture(class_name, stem, file.container, file.member, file.offset, file.size, sha256)


def _empty_folders(origin: Path, classes: set[str]) -> list[str]:
    """Folders without a picture in or below them. Only for an origin that is a folder: archives seldom list theirs."""
    if not origin.is_dir():
        return []
    with_pictures = {"/".join(parts[:depth]) for parts in (name.split("/") for name in classes)
                     for depth in range(len(parts) + 1)}
    found = []
    for path, folders, _ in os.walk(origin, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        relative = os.path.relpath(path, origin).replace(os.sep, "/")
        if relative != "." and relative not in with_pictures:
            found.append(relative)
            folders.clear()
    return sorted(found)
