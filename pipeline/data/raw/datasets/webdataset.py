"""Source `webdataset`: pictures in WebDataset tars that others made. See picture_listing.py.

A sample is the neighbours in a tar whose names are the same up to the first dot of their last part: `a/0001.jpg`,
`a/0001.cls`.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from matchnet.messages import said, shown
from pipeline.data.raw.readers.picture_files import EXTENSIONS, StoredFile, described, files_of_tar, picture_of
from pipeline.data.raw.readers.picture_listing import (
    Picture,
    extension_of,
    open_raw,
    read_left_out,
    read_oddities,
    read_raw,
    write_listing,
)
from pipeline.data.source_spec import WebdatasetParams
from pipeline.data.spec import DatasetParams

__all__ = ["extension_of", "open_raw", "prepare_raw", "read_left_out", "read_oddities", "read_raw"]
MOST_ABOUT = 1 << 20  # bytes of a member that says the class


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """List the pictures: each is read once."""
    origin = Path(os.path.abspath(params.webdataset.path))
    write_listing(raw_dir, origin, _find(origin, params.webdataset), Counter())
    read_raw(raw_dir, params)


def _find(origin: Path, own: WebdatasetParams) -> Iterator[Picture]:
    if not origin.exists():
        raise ValueError(f"{origin}: no such file or folder; name a tar, or a folder of tars, as webdataset.path")
    tars = [origin] if origin.is_file() else sorted(origin.rglob("*.tar"))
    if not tars:
        raise ValueError(f"{origin}: no .tar in it; name a folder of WebDataset tars, not compressed, as "
                         "webdataset.path")
    for tar in tars:
        container = "" if tar == origin else str(tar.relative_to(origin))
        for key, members in groupby(files_of_tar(tar, container), _key_of):
            yield _picture(origin, key, {_extension(member): member for member in members}, own)


def _key_of(file: StoredFile) -> str:
    folder, slash, name = file.member.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _extension(file: StoredFile) -> str:
    return file.member.rpartition("/")[2].partition(".")[2].lower()


def _picture(origin: Path, key: str, members: Mapping[str, StoredFile], own: WebdatasetParams) -> Picture:
    first = next(iter(members.values()))
    place = described(origin, first.container, key)
    wanted = [own.picture] if own.picture else [name for name in members if name.rpartition(".")[2] in EXTENSIONS]
    found = [name for name in wanted if name in members]
    if len(found) != 1:
        remedy = ("write webdataset.picture, the extension of the member that is the picture" if found or own.picture
                  else "take the sample out")
        count = f"{len(found)} pictures" if found else "no picture"
        raise ValueError(f"{place}: a sample with {count} (members {', '.join(members)}); {remedy}")
    file = members[found[0]]
    sha256 = picture_of(file, origin)
    if sha256 is None:
        raise ValueError(f"{place}: its member {found[0]} is no picture; write another webdataset.picture")
    folder, _, name = key.rpartition("/")
    class_name = _class_of(place, folder, members, own)
    return Picture(class_name, name, file.container, file.member, file.offset, file.size, sha256)


def _class_of(place: str, folder: str, members: Mapping[str, StoredFile], own: WebdatasetParams) -> str:
    if own.class_from == "folder":
        if not folder:
            raise ValueError(f"{place}: its key has no folder; write class_from: cls or json, for tars whose samples "
                             "have such a member")
        return folder
    if own.class_from not in members:
        raise ValueError(f"{place}: no member {own.class_from}, where class_from looks for the class (members "
                         f"{', '.join(members)}); write another class_from")
    file = members[own.class_from]
    with file.open() as opened:
        content = opened.read(MOST_ABOUT)
    try:
        value = content.decode().strip()
        if own.class_from == "json":
            value = json.loads(value)[own.json_field]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{place}: its member {own.class_from} does not say the class ({said(error)}); write another "
                         "class_from or json_field") from error
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"{place}: its class is {shown(value)}; a class is a name or a whole number: write another "
                         "class_from or json_field")
    return str(value)
