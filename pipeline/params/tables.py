"""From the files of parameters to the `Params` of one table: recipes and departures become whole models and rows.

The root's params.yaml has `cluster:`, `compute:` and the demo's table. experiments/TABLE/params.yaml has one table:

    table        the name of the folder
    datasets     see pipeline.data.spec
    recipes      parts of models, by name
    models       `recipe: NAME`, `from: shards/DATASET` or `from: models/TABLE/MODEL`, and what departs from the recipe
    evaluation   what all rows share
    rows         `model: NAME`, `dataset: NAME`, and what departs from `evaluation`
    comparisons  two rows on the same episodes
    report       titles, notes, the paper's figures

Departures have one level: a model departs from one recipe, and a recipe from the defaults of the dataclasses.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from matchnet.messages import shown
from matchnet.parsing import ParamsError, nearest, parse
from pipeline.data.spec import DatasetParams
from pipeline.params.rules import check_params
from pipeline.params.sections import (
    ClusterParams,
    ComparisonParams,
    ComputeParams,
    ModelParams,
    Params,
    ReportParams,
    RowParams,
)
from pipeline.params.yaml_file import LONGEST_PARAMS, YamlFile

PARAMS_FILE = "params.yaml"
EXPERIMENTS = "experiments"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LONGEST_NAME = 100
FOREACH = ("datasets", "models", "rows", "comparisons")  # every dvc.yaml has a stage for each of their entries
VARIANT_TAGS = ("name", "kind", "source")  # the field that tells which dataclass a section is


@dataclass(frozen=True, kw_only=True)
class Sections:
    """A file as it is written. Parts of models and rows stay plain values: their departures are not yet applied."""

    table: str
    cluster: ClusterParams = field(default_factory=ClusterParams)
    compute: ComputeParams = field(default_factory=ComputeParams)
    datasets: Mapping[str, DatasetParams] = field(default_factory=dict)
    recipes: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, Any] = field(default_factory=dict)
    comparisons: Mapping[str, ComparisonParams] = field(default_factory=dict)
    report: ReportParams


def table_folders(root: Path = Path()) -> list[Path]:
    """The folders of all tables, relative to the root: the root itself, then those in experiments/."""
    found = sorted(path.parent.relative_to(root) for path in (root / EXPERIMENTS).glob(f"*/{PARAMS_FILE}"))
    return [Path(), *found]


def folder_of(table: str, root: Path = Path()) -> Path:
    """The folder of a table.

    Raises:
        ParamsError: there is no such table; names those that there are.
    """
    tables = {table_name(folder, root): folder for folder in table_folders(root)}
    if table not in tables:
        raise ParamsError(f"there is no table {table!r}; {nearest(table, tables)}")
    return tables[table]


def read_table(folder: Path, root: Path = Path()) -> Params:
    """Read and check the table whose params.yaml lies in `folder`, relative to the root.

    Raises:
        ParamsError: what is wrong, with file and line, and what to do.
    """
    return _Reader(root).table(folder)


def table_name(folder: Path, root: Path = Path()) -> str:
    """The name of a folder's table. The root's is written in its file."""
    return folder.name or str(YamlFile.read(root / PARAMS_FILE, LONGEST_PARAMS).values.get("table", ""))


class _Reader:
    """Reads each file once: a table may use a dataset of another table, or begin with a model of one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[Path, tuple[YamlFile, Sections]] = {}

    def table(self, folder: Path) -> Params:
        file, written = self._sections(folder)
        with file.located():
            _require_sections(file.values)
            _check_names(written)
        models = {f"{written.table}/{name}": self.model(folder, name) for name in written.models}
        for model in list(models.values()):
            if model.init and model.init not in models:
                models[model.init] = self._model_named(model.init, "models")
        rows = {f"{written.table}/{name}": self._row(folder, name, models) for name in written.rows}
        datasets = dict(written.datasets)
        used = {model.dataset for model in models.values()} | {row.dataset for row in rows.values()}
        for name in used - datasets.keys():
            datasets[name] = self._dataset(name)
        cluster, compute = self._root_sections()
        params = Params(table=written.table, folder=folder, cluster=cluster, compute=compute,
                        own_datasets=tuple(written.datasets), datasets=datasets, models=models, rows=rows,
                        comparisons={f"{written.table}/{name}": _full(comparison, written.table)
                                     for name, comparison in written.comparisons.items()}, report=written.report)
        with file.located(aliases=self._aliases(folder)):
            check_params(params)
        return params

    def _sections(self, folder: Path) -> tuple[YamlFile, Sections]:
        if folder not in self.files:
            file = YamlFile.read(self.root / folder / PARAMS_FILE, LONGEST_PARAMS)
            with file.located():
                written = parse(Sections, file.values, "")
                if folder.name and written.table != folder.name:
                    raise ParamsError(f"table: found {written.table!r}, and the folder is {folder.name}; write "
                                      f"table: {folder.name}")
                _check_name("table", written.table)
                if "." in written.table:
                    raise ParamsError(f"table: found {written.table!r}; the name of a table has no dot: rename the "
                                      "folder")
            self.files[folder] = file, written
        return self.files[folder]

    def _root_sections(self) -> tuple[ClusterParams, ComputeParams]:
        _, written = self._sections(Path())
        return written.cluster, written.compute

    def model(self, folder: Path, name: str, on_the_way: tuple[str, ...] = ()) -> ModelParams:
        """A recipe with the model's departures, as a whole model."""
        file, written = self._sections(folder)
        path = f"models.{name}"
        with file.located(aliases=self._aliases(folder)):
            values = dict(_section(written.models[name], path))
            recipe = values.pop("recipe", None)
            if recipe is not None and (not isinstance(recipe, str) or recipe not in written.recipes):
                raise ParamsError(f"{path}.recipe: there is no {shown(recipe)}; {nearest(recipe, written.recipes)}")
            base = _section(written.recipes[recipe], f"recipes.{recipe}") if recipe is not None else {}
            for key in ("recipe", "from", "dataset", "init"):
                if key in base:
                    raise ParamsError(f"recipes.{recipe}.{key}: a recipe has no such parameter; a model says it: "
                                      "`recipe:` and `from:`")
            dataset, init = self._start(values.pop("from", None), path, (*on_the_way, f"{written.table}/{name}"))
            for key in ("dataset", "init"):
                if key in values:
                    raise ParamsError(f"{path}.{key}: there is no such parameter; write `from: shards/DATASET`, or "
                                      "`from: models/TABLE/MODEL` for a model that begins with another one's weights")
            merged = merged_values(base, values)
            return parse(ModelParams, {**merged, "dataset": dataset, "init": init}, path)

    def _start(self, start: object, path: str, on_the_way: tuple[str, ...]) -> tuple[str, str | None]:
        """The dataset that `from:` says, and the model, if it says one."""
        kind, _, rest = str(start).partition("/")
        if kind == "shards" and rest and "/" not in rest:
            self._require_dataset(rest, f"{path}.from")
            return rest, None
        if kind != "models" or rest.count("/") != 1:
            raise ParamsError(f"{path}.from: found {shown(start)}; write shards/DATASET, or models/TABLE/MODEL for a "
                              "model that begins with that one's weights")
        if rest in on_the_way:
            raise ParamsError(f"{path}.from: found {shown(start)}, which begins with this model: "
                              f"{' from '.join([*on_the_way, rest])}; let one of them begin with shards/DATASET")
        return self._model_named(rest, f"{path}.from", on_the_way).dataset, rest

    def _model_named(self, full_name: str, path: str, on_the_way: tuple[str, ...] = ()) -> ModelParams:
        table, _, name = full_name.partition("/")
        try:
            folder = folder_of(table, self.root)
        except ParamsError as error:
            raise ParamsError(f"{path}: {error}") from None
        _, written = self._sections(folder)
        if name not in written.models:
            raise ParamsError(f"{path}: there is no model {full_name!r}; "
                              f"{nearest(full_name, [f'{table}/{known}' for known in written.models])}")
        return self.model(folder, name, on_the_way)

    def _row(self, folder: Path, name: str, models: Mapping[str, ModelParams]) -> RowParams:
        file, written = self._sections(folder)
        path = f"rows.{name}"
        with file.located(aliases=self._aliases(folder)):
            merged = merged_values(_section(written.evaluation, "evaluation"), _section(written.rows[name], path))
            for key in ("model", "dataset"):
                if key not in _section(written.rows[name], path):
                    raise ParamsError(f"{path}.{key}: this parameter is missing; dvc.yaml reads it here: add it")
            model = f"{written.table}/{merged['model']}"
            if model not in models:
                raise ParamsError(f"{path}.model: there is no {shown(merged['model'])} among the models of this "
                                  f"table; {nearest(merged['model'], written.models)}")
            self._require_dataset(merged["dataset"], f"{path}.dataset")
            split = merged.get("split") or self._usual_split(merged["dataset"], models[model], path)
            return parse(RowParams, {**merged, "model": model, "split": split}, path)

    def _usual_split(self, dataset: str, model: ModelParams, path: str) -> str:
        """The model's own split, or the only one of another dataset."""
        splits = list(self._dataset(dataset).splits)
        if dataset != model.dataset and len(splits) > 1 and model.split not in splits:
            raise ParamsError(f"{path}.split: this parameter is missing; {dataset} has the splits {', '.join(splits)}: "
                              "name one")
        return splits[0] if dataset != model.dataset and len(splits) == 1 else model.split

    def _aliases(self, folder: Path) -> dict[str, str]:
        """Section -> the section that may hold its values: a model's recipe, or `evaluation` for a row."""
        _, written = self._sections(folder)
        aliases = {f"models.{name}": f"recipes.{values['recipe']}" for name, values in written.models.items()
                   if isinstance(values, Mapping) and "recipe" in values}
        return aliases | {f"rows.{name}": "evaluation" for name in written.rows}

    def _require_dataset(self, name: object, path: str) -> None:
        if not isinstance(name, str) or name not in self._datasets:
            raise ParamsError(f"{path}: there is no dataset {shown(name)}; {nearest(name, self._datasets)}")

    @cached_property
    def _datasets(self) -> dict[str, Path]:
        """Every dataset of every table, and the folder of its table. Tables are read as they are, so that a mistake in
        another table stops this one only if it uses that table."""
        found: dict[str, Path] = {}
        for folder in table_folders(self.root):
            values = YamlFile.read(self.root / folder / PARAMS_FILE, LONGEST_PARAMS).values
            section = values.get("datasets")
            for name in section if isinstance(section, Mapping) else ():
                if name in found:
                    raise ParamsError(f"datasets.{name}: {folder / PARAMS_FILE} and {found[name] / PARAMS_FILE} both "
                                      "have it; shards have one place: rename one of them, or use the other table's")
                found[str(name)] = folder
        return found

    def _dataset(self, name: str) -> DatasetParams:
        return self._sections(self._datasets[name])[1].datasets[name]


def merged_values(base: Mapping[str, Any], departures: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the departures in place of its own values; sections are merged, everything else is replaced.

    A section that is of another kind than the base's (`method: {name: siamese}`) replaces it whole.
    """
    merged = dict(base)
    for key, value in departures.items():
        below = merged.get(key)
        is_merged = isinstance(value, Mapping) and isinstance(below, Mapping) and not any(
            tag in value and value[tag] != below.get(tag) for tag in VARIANT_TAGS)
        merged[key] = merged_values(below, value) if is_merged else value  # type: ignore[arg-type]
    return merged


def _full(comparison: ComparisonParams, table: str) -> ComparisonParams:
    return ComparisonParams(row=f"{table}/{comparison.row}", baseline=f"{table}/{comparison.baseline}",
                            column=comparison.column)


def _section(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ParamsError(f"{path}: found {shown(value)}; it must be a section, with one `name: value` a line")
    return value


def _require_sections(values: Mapping[str, Any]) -> None:
    for name in FOREACH:
        if name not in values:
            raise ParamsError(f"{name}: this section is missing, and dvc.yaml has a stage for each of its entries; "
                              f"write `{name}: {{}}` if there are none")


def _check_names(written: Sections) -> None:
    for section in ("datasets", "recipes", "models", "rows", "comparisons"):
        for name in getattr(written, section):
            _check_name(f"{section}.{name}", name)


def _check_name(path: str, name: str) -> None:
    """Names become folders, and parts of commands."""
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ParamsError(f"{path}: the name {name[:LONGEST_NAME]!r} cannot be used; a name begins with a letter or a "
                          f"digit, has letters, digits, '.', '_' and '-' alone, and at most {LONGEST_NAME} characters")
