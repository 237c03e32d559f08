"""Named splits: which classes are for train, valid and test."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.spec import (
    PARTS,
    CutListSplit,
    FamilySplit,
    ListSplit,
    Part,
    RandomSplit,
    SplitParams,
    TwoListsSplit,
    WholeSplit,
    WordSplit,
)

LISTS = Path(__file__).parent / "lists"
Split = dict[Part, list[str]]


def family_of(class_name: str) -> str:
    """The alphabet, script, ... of a class: its name up to the first `/`."""
    return class_name.partition("/")[0]


def make_split(params: SplitParams, class_names: Sequence[str], sample: bool = False) -> Split:
    """Put every class into exactly one part; each part is sorted by name.

    Depends on the set of names alone, not on their order.

    Args:
        sample: whether the dataset is a sample of what lists were made for: they may then name classes that it lacks,
            but not only such.
    Raises:
        ValueError: more classes or families asked for than there are; a list that names one not there, or one that
            another list has for another part.
    """
    names = sorted(class_names)
    match params:
        case WholeSplit():
            return {part: names if part == params.part else [] for part in PARTS}
        case RandomSplit():
            return _as_split(names, _divide(names, params.num_valid, params.num_test, params.seed, "classes"))
        case FamilySplit():
            families = sorted({family_of(name) for name in names})
            of_family = _divide(families, params.num_valid, params.num_test, params.seed, "families")
            return _as_split(names, {name: of_family[family_of(name)] for name in names})
        case ListSplit():
            return _split_by_list(params, names, sample)
        case CutListSplit():
            return _split_by_list(params, names, may_lack=True)
        case TwoListsSplit():
            return _split_by_lists(params, names, sample)
        case WordSplit():
            return _split_words(params, names)


def list_path(name: str) -> Path:
    """Path of a list in `pipeline/data/lists`, or of a user's own if the name has a slash. ValueError if missing."""
    path = Path(name) if "/" in name else LISTS / name
    if not path.is_file():
        known = ", ".join(sorted(path.name for path in LISTS.iterdir()))
        within = "" if "/" in name else f" in {LISTS}"
        raise ValueError(f"no list {name!r}{within}; name one of {known}, or the path of your own, with a slash "
                         "(./classes.txt), one class or family a line")
    return path


def read_list(name: str) -> list[str]:
    """The entries of a list, without comments (`#`) and empty lines."""
    path = list_path(name)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8 ({error}); save it so, one class or family a line") from error
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _split_by_list(params: ListSplit | CutListSplit, names: list[str], may_lack: bool) -> Split:
    test = _listed("test", params.test, names, may_lack)
    families = sorted({family_of(name) for name in names if name not in test})
    of_family = _divide(families, params.num_valid, 0, params.seed, "families outside the list")
    return _as_split(names, {name: "test" if name in test else of_family[family_of(name)] for name in names})


def _split_by_lists(params: TwoListsSplit, names: list[str], sample: bool) -> Split:
    valid, test = _listed("valid", params.valid, names, sample), _listed("test", params.test, names, sample)
    if valid & test:
        raise ValueError(f"valid, test: {params.valid} and {params.test} both name {min(valid & test)!r} "
                         f"({len(valid & test)} such); a class is in one part alone: name lists that share none")
    return _as_split(names, {name: "test" if name in test else "valid" if name in valid else "train" for name in names})


def _listed(part: Part, list_name: str, names: list[str], may_lack: bool) -> set[str]:
    """The classes that a list names, themselves or by their family; `may_lack`: classes of the list may be missing."""
    listed = set(read_list(list_name))
    strangers = listed - set(names) - {family_of(name) for name in names}
    if strangers and not may_lack:
        raise ValueError(f"{part}: {list_name} names {min(strangers)!r}, no class or family of this dataset "
                         f"({len(strangers)} such); name a list that was made for it, or write kind: cut_list, which "
                         "passes over classes that are not there")
    if listed and strangers == listed:
        raise ValueError(f"{part}: of the {len(listed)} classes and families that {list_name} names this dataset "
                         f"has none, not even {min(listed)!r}; name a list that was made for it, or take a larger "
                         "sample")
    return {name for name in names if name in listed or family_of(name) in listed}


def _split_words(params: WordSplit, names: list[str]) -> Split:
    if params.test is None:
        assert params.num_test is not None
        return _as_split(names, _divide(names, params.num_valid, params.num_test, params.seed, "words"))
    listed = set(read_list(params.test))
    strangers = listed - set(names)
    if strangers:
        raise ValueError(f"test: {params.test} has {min(strangers)!r}, no word of this corpus ({len(strangers)} such "
                         f"of {len(listed)}): the corpus is of another vocabulary; name a list that was made for it, "
                         "or give num_test")
    others = _divide([name for name in names if name not in listed], params.num_valid, 0, params.seed,
                     "words outside the list")
    return _as_split(names, {name: "test" if name in listed else others[name] for name in names})


def _divide(items: list[str], num_valid: int, num_test: int, seed: int, what: str) -> dict[str, Part]:
    """Divide in an order that the seed decides: the last `num_test` to test, `num_valid` before them to valid."""
    if num_valid + num_test > len(items):
        raise ValueError(f"num_valid, num_test: {num_valid} + {num_test} are more than the {len(items)} "
                         f"{what}; ask for fewer")
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(items))
    num_train = len(items) - num_valid - num_test
    bounds: list[tuple[Part, int]] = [("train", num_train), ("valid", num_valid), ("test", num_test)]
    parts = [part for part, count in bounds for _ in range(count)]
    return {items[position]: part for position, part in zip(order, parts, strict=True)}


def _as_split(names: list[str], part_of: Mapping[str, Part]) -> Split:
    return {part: [name for name in names if part_of[name] == part] for part in PARTS}
