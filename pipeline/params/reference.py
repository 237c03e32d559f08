"""The reference of params.yaml: every field of every section, with type, default and meaning.

    python -m pipeline.params.reference    # writes docs/reference/params.md anew

The dataclasses say all of it: fields, types and defaults by themselves, meanings in `Args:` of their docstrings.
"""

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from matchnet.files import atomic_write
from pipeline.data.spec import DatasetParams
from pipeline.params.sections import (
    ClusterParams,
    ComparisonParams,
    ComputeParams,
    ModelParams,
    ReportParams,
    RowParams,
)

PAGE = Path("docs/reference/params.md")
SECTIONS = {"cluster": ClusterParams, "compute": ComputeParams, "datasets.NAME": DatasetParams,
            "models.NAME": ModelParams, "rows.NAME": RowParams, "comparisons.NAME": ComparisonParams,
            "report": ReportParams}
PLAIN = {int: "whole number", float: "number", bool: "true or false", str: "text", types.NoneType: "null"}
ENTRY = re.compile(r"^    (\w+(?:, \w+)*): ", re.MULTILINE)
# For a model the file has `recipe` and `from`; pipeline.params.tables makes these two fields from them.
WRITTEN_AS_FROM = ("dataset", "init")
FROM = (("recipe", "text or null", "`null`", "The recipe that this model departs from."),
        ("from", "text", "required", "`shards/DATASET`: the dataset to train on. Or `models/TABLE/MODEL`: the model "
                                     "whose weights this one begins with."))
HEAD = """# Reference of params.yaml

This page is generated from the dataclasses by `python -m pipeline.params.reference`. A test compares the two.

- `table` is the name of the folder. The root's table is `demo`.
- `cluster` and `compute` stand in the root's file only. They hold for all tables.
- A recipe (`recipes.NAME`) has the fields of a model. A model writes only what differs from its recipe.
- `evaluation` has the fields of a row. A row writes only what differs from `evaluation`.
- A field that is "required" has no default. The model and its recipe together must say it, or the row and `evaluation`.
- An unknown field, a wrong type or an impossible value is refused with file, line and rule, before any work begins:
  `python -m stages.resolve --check`.
"""


def reference() -> str:
    """The whole page, in Markdown."""
    return HEAD + "".join(_section(found, paths) for found, paths in classes().items())


def meanings(found: type) -> dict[str, str]:
    """Field name -> its meaning, from the docstrings of a dataclass and its bases."""
    said: dict[str, str] = {}
    for base in reversed(found.__mro__):
        args = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Args:\n")[2]
        parts = ENTRY.split(args)
        for names, text in zip(parts[1::2], parts[2::2], strict=True):
            said |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return said


def own_fields(found: type) -> list[Field]:
    """The fields that a file may set, without the tag that names the kind of section."""
    hidden = WRITTEN_AS_FROM if found is ModelParams else ()
    return [field for field in fields(found) if field.init and field.name not in hidden
            and not _is_tag(get_type_hints(found)[field.name])]


def classes() -> dict[type, list[str]]:
    """Every dataclass that params.yaml may hold, and where it stands, sections in the order of the file."""
    found: dict[type, list[str]] = {}

    def visit(kind: type, path: str) -> None:
        found.setdefault(kind, []).append(path)
        hints = get_type_hints(kind)
        for field in own_fields(kind):
            below = f"{path}.{field.name}" + (".NAME" if get_origin(hints[field.name]) is Mapping else "")
            for inner in _dataclasses(hints[field.name]):
                visit(inner, below)

    for path, kind in SECTIONS.items():
        visit(kind, path)
    return found


def _dataclasses(hint: Any) -> Iterator[type]:
    if is_dataclass(hint):
        yield hint  # type: ignore[misc]
    elif get_origin(hint) is not Literal:
        for inner in get_args(hint):
            yield from _dataclasses(inner)


def _section(found: type, paths: list[str]) -> str:
    top = next((path for path, kind in SECTIONS.items() if kind is found), None)
    tag = next((f"{field.name}: {field.default}" for field in fields(found)
                if _is_tag(get_type_hints(found)[field.name])), None)
    summary = " ".join(inspect.cleandoc(found.__doc__ or "").partition("Args:\n")[0].split())
    where = "" if top else "Stands at " + ", ".join(f"`{path}`" for path in sorted(set(paths))) + \
        (f", with `{tag}`" if tag else "") + ".\n\n"
    heading = f"\n## {top}\n" if top else f"\n### {found.__name__}\n"
    rows = [*(FROM if found is ModelParams else ()), *_rows(found)]
    table = "\n".join(f"| {' | '.join((f'`{name}`', *cells))} |" for name, *cells in rows)
    head = "| field | type | default | meaning |\n|---|---|---|---|\n"
    return f"{heading}\n{summary}\n\n{where}" + (f"{head}{table}\n" if rows else "It has no fields.\n")


def _rows(found: type) -> Iterator[tuple[str, str, str, str]]:
    said, hints = meanings(found), get_type_hints(found)
    for field in own_fields(found):
        meaning = said.get(field.name, "")
        yield (field.name, _type(hints[field.name]), _default(field),
               (meaning[:1].upper() + meaning[1:]).replace("|", "\\|"))


def _type(hint: Any) -> str:
    origin = get_origin(hint)
    if is_dataclass(hint):
        name = hint.__name__  # type: ignore[union-attr]
        return f"[{name}](#{name.lower()})"
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_type, get_args(hint)))
    if origin is tuple:
        inner = get_args(hint)
        return f"list of {_type(inner[0])}" if inner[-1] is Ellipsis else f"list of {len(inner)}: {_type(inner[0])}"
    if origin is Mapping:
        return f"by name: {_type(get_args(hint)[1])}"
    return PLAIN[hint]


def _default(field: Field) -> str:
    if field.default_factory is not MISSING:
        return f"`{_written(field.default_factory())}`"
    return "required" if field.default is MISSING else f"`{_written(field.default)}`"


def _written(value: Any) -> str:
    """A default as YAML would have it; of a section, what differs from the section's own defaults."""
    if is_dataclass(value):
        departures = [f"{field.name}: {_written(getattr(value, field.name))}" for field in fields(value)
                      if field.init and (_is_tag(get_type_hints(type(value))[field.name])
                                         or getattr(value, field.name) != _own_default(field))]
        return f"{{{', '.join(departures)}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else '""'


def _own_default(field: Field) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _is_tag(hint: Any) -> bool:
    return get_origin(hint) is Literal and len(get_args(hint)) == 1


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(PAGE) as file:
        file.write(reference())
