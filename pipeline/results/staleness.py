"""Stale rows and comparisons: their figures were made with other parameters, data or code than the files now say.

dvc.lock says what each stage ran with, and git has dvc.lock. So staleness is known in a fresh clone too, without data
or models.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline import paths
from pipeline.params import Params, ParamsError, read_table, table_folders, table_name
from pipeline.params.yaml_file import YamlFile
from pipeline.resolve import resolved_files

LOCK = "dvc.lock"
PRODUCERS = {"data/raw": "download", "data/shards": "shard", "data/models": "train", "data/evaluations": "evaluate"}
OF_A_TABLE = ("train", "evaluate")  # the table's name begins the names of what they make
KINDS = {"evaluate": "evaluation", "compare": "comparison"}


def stale_rows(params: Params) -> dict[str, str]:
    """Row -> the reason, for each row whose figures are not those of the files as they are now."""
    return _stale(params.table, "evaluate",
                  {name: (paths.metrics_file(name), paths.details_file(name)) for name in params.rows})


def stale_comparisons(params: Params) -> dict[str, str]:
    """Comparison -> the reason, as for rows."""
    return _stale(params.table, "compare", {name: (paths.comparison_file(name),) for name in params.comparisons})


def _stale(table: str, stage: str, outputs: Mapping[str, Iterable[Path]]) -> dict[str, str]:
    """Full name -> the reason; names without any output are left out."""
    locks = _Locks()
    found = {}
    for name, files in outputs.items():
        present = [path for path in files if path.exists()]
        reason = locks.reason(table, f"{stage}@{paths.short_name(name)}", present) if present else ""
        if reason:
            found[name] = reason
    return found


class _Locks:
    """The dvc.lock of every table, and what every stage depends on now."""

    def __init__(self) -> None:
        self.lock = cache(self._lock)
        self.resolved = cache(self._resolved)
        self.tables = {folder: table_name(folder) for folder in table_folders()}

    def reason(self, table: str, stage: str, outputs: list[Path]) -> str:
        """The reason why a stage's outputs are stale: they or the stage's inputs have changed. Empty if up to date."""
        entry, kind = self.lock(table).get(stage), KINDS[stage.partition("@")[0]]
        if entry is None:
            return f"made by an earlier version: {LOCK} does not have the {kind}"
        recorded = {out.path: out.md5 for out in entry.outs}
        for path in outputs:
            if recorded.get(path.as_posix()) != _md5(path.read_bytes()):
                return f"{path} is not what {LOCK} says: it was changed, or committed without {LOCK}"
        return self._inputs(table, entry, f"its {kind}")

    def _inputs(self, table: str, entry: "_Stage", whose: str) -> str:
        own = f"{paths.RESOLVED.as_posix()}/{table}/"
        for dep in entry.deps:
            path = dep.path
            if path.startswith(own):
                if self.resolved(table).get(path.removeprefix(own)) != dep.md5:
                    return f"the parameters or the code of {whose} changed since"
            elif reason := self._made_otherwise(table, path, dep.md5):
                return reason
        return ""

    def _made_otherwise(self, table: str, path: str, md5: str | None) -> str:
        """The reason why an input (data, a model, an evaluation) is not what its own stage makes now; else empty."""
        folder, name = next(((folder, path.removeprefix(f"{folder}/")) for folder in PRODUCERS
                             if path.startswith(f"{folder}/")), ("", ""))
        if not folder:
            return ""
        stage = PRODUCERS[folder]
        if stage in OF_A_TABLE:
            table, _, name = name.partition("/")
        else:
            table = next((other for other in self.tables.values() if f"{stage}@{name}" in self.lock(other)), table)
        entry = self.lock(table).get(f"{stage}@{name}")
        if entry is None:
            return f"{LOCK} does not have {stage}@{name}"
        if md5 not in [out.md5 for out in entry.outs]:
            return f"{path} was made anew since"
        return self._inputs(table, entry, f"{stage}@{name}")

    def _lock(self, table: str) -> "dict[str, _Stage]":
        path = self._folder(table) / LOCK
        if not path.exists():
            return {}
        try:
            return _LOCK.validate_python(YamlFile.read(path).values).stages
        except ValidationError as error:
            first = error.errors()[0]
            raise ParamsError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; restore it from git, or "
                              "delete it, and all stages of the table run again") from error

    def _resolved(self, table: str) -> dict[str, str]:
        return {name: _md5(text.encode()) for name, text in resolved_files(read_table(self._folder(table))).items()}

    def _folder(self, table: str) -> Path:
        return next(folder for folder, name in self.tables.items() if name == table)


@dataclass(frozen=True)
class _File:
    """A file that a stage read or wrote."""

    path: str
    md5: str | None = None


@dataclass(frozen=True)
class _Stage:
    deps: tuple[_File, ...] = ()
    outs: tuple[_File, ...] = ()


@dataclass(frozen=True)
class _Lock:
    """The part of a dvc.lock that we read."""

    stages: dict[str, _Stage] = field(default_factory=dict)


_LOCK = TypeAdapter(_Lock)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
