"""Pictures in folders: those of known classes, and those that are asked about. Nothing is decoded here."""

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matchnet.pictures.reading import FORMATS, first_bytes, format_of

HIDDEN = (".", "~", "Thumbs.db", "desktop.ini")  # such names belong to the system, not to a picture
BESIDE = "beside the folders of the classes; put it into one of them"
LOOP = "a link to a folder that holds it; remove the link"
NO_FILE = "a pipe or a device, and no file; save the picture as a file"


@dataclass(frozen=True)
class PassedOver:
    """A file that was not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Support:
    """Pictures of known classes: paths and their labels, in the order of the names."""

    paths: list[Path]
    labels: list[str]
    passed_over: list[PassedOver]


def find_support(folder: Path) -> Support:
    """The pictures of a folder with a folder for each class; or, without folders, of one class each, its name.

    Raises:
        ValueError: no such folder, no picture, one class only, a class without a picture, or two classes of one name
            but for upper and lower case.
    """
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise ValueError(f"{folder}: {what}; name a folder with a folder of pictures for each class, or with one "
                         "picture of each class")
    entries = _visible(folder)
    class_folders = [entry for entry in entries if entry.is_dir() and _identity(entry) != _identity(folder)]
    found, passed_over = (_of_folders(folder, entries, class_folders) if class_folders else _of_files(entries))
    if not found:
        raise ValueError(f"{folder}: there is no picture in it ({', '.join(FORMATS)}); put a folder of pictures for "
                         f"each class into it, or one picture of each class{_said(passed_over)}")
    _require_different_names(folder, found)
    if len(found) < 2:
        raise ValueError(f"{folder}: found one class only, {next(iter(found))!r}; there is nothing to tell it from: "
                         "add a second class")
    pairs = [(path, name) for name, paths in found.items() for path in paths]
    return Support([path for path, _ in pairs], [name for _, name in pairs], passed_over)


def find_queries(wanted: Sequence[Path]) -> tuple[list[Path], list[PassedOver]]:
    """The given files, and the pictures in the given folders and in the folders within, by name."""
    paths: list[Path] = []
    passed_over: list[PassedOver] = []
    for one in wanted:
        if one.is_dir():
            pictures, others = _pictures(_files_below(one, frozenset()))
            paths += pictures
            passed_over += others or ([] if pictures else [PassedOver(one, "there is no picture in this folder")])
        elif one.is_file():
            paths.append(one)
        else:
            passed_over.append(PassedOver(one, NO_FILE if one.exists() else "there is no such file"))
    return paths, passed_over


def _of_folders(folder: Path, entries: list[Path],
                class_folders: list[Path]) -> tuple[dict[str, list[Path]], list[PassedOver]]:
    found: dict[str, list[Path]] = {}
    beside = sorted(set(entries).difference(class_folders))
    passed_over = [PassedOver(entry, LOOP if entry.is_dir() else BESIDE) for entry in beside]
    for class_folder in class_folders:
        pictures, others = _pictures(_files_below(class_folder, frozenset({_identity(folder)})))
        if not pictures:
            raise ValueError(f"{class_folder}: there is no picture of this class; put one there, or delete the folder"
                             f"{_said(others)}")
        found[class_folder.name] = pictures
        passed_over += others
    return found, passed_over


def _of_files(entries: list[Path]) -> tuple[dict[str, list[Path]], list[PassedOver]]:
    pictures, passed_over = _pictures(entries)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in pictures:
        by_name[path.stem].append(path)
    for name, paths in by_name.items():
        if len(paths) > 1:
            raise ValueError(f"{paths[0]} and {paths[1].name}: two pictures of class {name!r}, and in a folder without "
                             "folders each file is a class; rename one, or make a folder for each class")
    return dict(by_name), passed_over


def _require_different_names(folder: Path, names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise ValueError(f"{folder}: classes {other!r} and {name!r} differ in upper and lower case alone; put them "
                             "together, or rename one")


def _pictures(files: Iterable[Path]) -> tuple[list[Path], list[PassedOver]]:
    """Pictures told by their first bytes, not by their names; a file cut short within them is reported when decoded."""
    pictures, others = [], []
    for path in files:
        try:
            if not stat.S_ISREG(mode := path.stat().st_mode):  # a pipe is never opened: one waits for its writer
                others.append(PassedOver(path, LOOP if stat.S_ISDIR(mode) else NO_FILE))
                continue
            head = first_bytes(path)
        except OSError as error:
            others.append(PassedOver(path, f"cannot be opened: {error.strerror}"))
            continue
        if format_of(head):
            pictures.append(path)
        elif head[4:8] == b"ftyp":
            others.append(PassedOver(path, "HEIC, AVIF or a film, which cannot be read here; export it as JPEG"))
        else:
            others.append(PassedOver(path, f"no picture that can be read here ({', '.join(FORMATS)})"))
    return pictures, others


def _files_below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """What is in the folder and in the folders within. A link to a folder that holds it is yielded, and not followed.

    Args:
        above: the folders that hold this one.
    """
    above |= {_identity(folder)}
    for entry in _visible(folder):
        if entry.is_dir() and _identity(entry) not in above:
            yield from _files_below(entry, above)
        else:
            yield entry


def _identity(folder: Path) -> tuple[int, int]:
    """The same for a folder and for links to it."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def _visible(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(HIDDEN)]


def _said(passed_over: list[PassedOver]) -> str:
    return f" ({passed_over[0].path.name}: {passed_over[0].reason})" if passed_over else ""
