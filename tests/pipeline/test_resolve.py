"""A stage is stale if and only if something that its result depends on changed: a parameter, a default, its code."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from pipeline.data.source_spec import FolderParams, GlyphParams, ImagenetParams, MiniImagenetParams, WebdatasetParams
from pipeline.data.spec import SOURCES, STORED_ONLY, DatasetParams
from pipeline.params import Params, read_table, table_folders
from pipeline.params.tables import merged_values
from pipeline.params.yaml_file import YamlFile
from pipeline.resolve import resolved_files, stage_parameters

TABLES = table_folders(ROOT)
REPORT = "report.json"
READ = cache(YamlFile.read)
SECTIONS = (GlyphParams, ImagenetParams, MiniImagenetParams, FolderParams, WebdatasetParams)
Places = Iterator[tuple[type, tuple[str, ...]]]


def parameters(params: Params) -> dict[str, str]:
    return {file: json.dumps(values) for file, _, _, values in stage_parameters(params)}


@pytest.fixture(autouse=True)
def each_file_is_read_once(monkeypatch) -> None:
    """A hundred tests read ten files."""
    monkeypatch.setattr(YamlFile, "read", staticmethod(READ))


@pytest.fixture(scope="module")
def tables() -> dict[Path, Params]:
    return {folder: read_table(folder, ROOT) for folder in TABLES}


@pytest.fixture(scope="module")
def before(tables) -> dict[Path, dict[str, str]]:
    return {folder: parameters(params) for folder, params in tables.items()}


def places(value: object, path: tuple[str, ...] = ()) -> Places:
    """Every dataclass below a value, and where it is."""
    if dataclasses.is_dataclass(value):
        yield type(value), path
        for field in dataclasses.fields(value):
            yield from places(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from places(item, (*path, key))


def parts(params: Params) -> Iterator[tuple[str, Any, dict]]:
    """(stage file, what was parsed, what is written) of each stage's parameters: the slow and obvious way."""
    written = YamlFile.read(ROOT / params.folder / "params.yaml").values
    for name in params.own_datasets:
        yield f"shard/{name}.json", params.datasets[name], written["datasets"][name]
    for name, model in written["models"].items():
        raw = merged_values(written["recipes"][model["recipe"]] if "recipe" in model else {}, model)
        yield f"train/{name}.json", params.models[f"{params.table}/{name}"], raw
        compute = YamlFile.read(ROOT / "params.yaml").values["compute"]
        yield f"train/{name}.json", params.compute, compute
    for name, row in written["rows"].items():
        raw = merged_values(written["evaluation"], row)
        yield f"evaluate/{name}.json", params.rows[f"{params.table}/{name}"], raw


def defaults() -> list[tuple[type, str]]:
    """(dataclass, field) of every plain default that reaches some stage of some table."""
    found: dict[tuple[type, str], None] = {}
    for folder in TABLES:
        for _, parsed, _ in parts(read_table(folder, ROOT)):
            for owner, _ in places(parsed):
                for field in dataclasses.fields(owner):
                    if isinstance(field.default, int | float):
                        found[owner, field.name] = None
    return list(found)


DEFAULTS = defaults()


def test_every_kind_of_default_is_among_them():
    names = {f"{owner.__name__}.{name}" for owner, name in DEFAULTS}
    assert {"ModelParams.channels", "ModelParams.rotations", "GlyphParams.num_hands", "ImagenetParams.quality",
            "EpisodicSpec.weight_decay", "AttentionSpec.scale_value", "RowParams.episodes", "DatasetParams.seed",
            "FineTuningSpec.num_copies", "ComputeParams.compile"} <= names


def users(params: Params, owner: type, name: str) -> tuple[set[str], set[str]]:
    """The stages that take this field from its default, and those that may: there a whole section is a default."""
    must, may = set(), set()
    for stage, parsed, written in parts(params):
        for found, path in places(parsed):
            if found is not owner or (path and path[0] in SOURCES and path[0] != parsed.source):
                continue
            section = written
            for key in path:
                section = section.get(key) if isinstance(section, dict) else None
            if isinstance(section, dict) and name not in section:
                must.add(stage)
            elif section is None:
                may.add(stage)
            if stage.startswith("shard/") and name not in STORED_ONLY and (path or name == "seed"):
                may.add(stage.replace("shard/", "download/"))
    return must, may


@pytest.mark.parametrize(("owner", "name"), DEFAULTS, ids=[f"{owner.__name__}.{name}" for owner, name in DEFAULTS])
def test_a_changed_default_makes_exactly_the_stages_stale_that_use_it(owner, name, tables, before, monkeypatch):
    change_default(monkeypatch, owner, name)
    for folder in TABLES:
        must, may = users(tables[folder], owner, name)
        try:
            after = parameters(read_table(folder, ROOT))
        except ValueError:
            # only a table that uses a default can refuse another one. But datasets have the sections of all sources,
            # and a table may use another table's dataset
            assert must | may or owner in (*SECTIONS, DatasetParams)
            continue
        stale = {stage for stage in after if after[stage] != before[folder][stage]}
        assert must <= stale <= must | may | {REPORT}
        of_models = any(before[folder][stage].partition('"compute"')[0] != after[stage].partition('"compute"')[0]
                        for stage in stale if stage.startswith("train/"))
        assert (REPORT in stale) == of_models, "the report shows the parameters of models"


def change_default(monkeypatch, owner: type, name: str) -> None:
    field = owner.__dataclass_fields__[name]
    value = field.default
    other = (not value) if isinstance(value, bool) else value * 0.9 + 0.001
    if type(value) is int:
        other = value + 1 if value < 100 else value - 1  # a grey value has 255 at most
    if name in (owner.__init__.__kwdefaults__ or {}):
        monkeypatch.setitem(owner.__init__.__kwdefaults__, name, other)
        return
    named = [each.name for each in dataclasses.fields(owner) if each.default is not dataclasses.MISSING
             or each.default_factory is not dataclasses.MISSING]
    values = list(owner.__init__.__defaults__)
    values[named.index(name)] = other
    monkeypatch.setattr(owner.__init__, "__defaults__", tuple(values))


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {stage for stage in before.keys() | after.keys() if before.get(stage) != after.get(stage)}


def test_a_new_row_column_or_title_makes_nothing_else_stale(tables, before):
    params, old = tables[Path("experiments/omniglot")], before[Path("experiments/omniglot")]
    row = params.rows["omniglot/short"]
    more = dataclasses.replace(params, rows={**params.rows, "omniglot/lr0.01": row})
    assert changed(old, parameters(more)) == {"evaluate/lr0.01.json", REPORT}
    columns = {**params.rows, "omniglot/short": dataclasses.replace(row, columns=(*row.columns, "3w1s"))}
    assert changed(old, parameters(dataclasses.replace(params, rows=columns))) == {"evaluate/short.json", REPORT}
    said = dataclasses.replace(params.report, titles={"short-fce": "another"}, notes={"short": "more"})
    assert changed(old, parameters(dataclasses.replace(params, report=said))) == {REPORT}
    cluster = dataclasses.replace(params.cluster, max_failures=9, mirror="/some/folder")
    assert changed(old, parameters(dataclasses.replace(params, cluster=cluster))) == set()


def test_every_stage_has_its_file_with_its_code(tables):
    params = tables[Path("experiments/omniglot")]
    files = resolved_files(params, ROOT)
    assert len(files) == 2 * len(params.own_datasets) + len(params.own_models) + len(params.rows) + 2
    code = json.loads(files["train/mann.json"])["code"]
    assert "matchnet/methods/mann.py" in code and "matchnet/methods/siamese.py" not in code
    assert all(len(digest) == 64 for digest in code.values())
