"""A table as its files and results say it: titles, the paper's figures, and which rows are stale."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import paths, resolve
from pipeline.params import read_params
from pipeline.results.metrics import (
    ColumnResult,
    DatasetUsed,
    Details,
    Machine,
    ModelUsed,
    SecondsSpent,
    write_details,
    write_metrics,
)
from pipeline.results.tables import Row, collect_table
from stages import report

ROOT_PARAMS = """\
table: base
datasets:
  small:
    source: glyphs
    splits: {scripts: {kind: families, num_valid: 1, num_test: 2}}
models: {}
rows: {}
comparisons: {}
report: {title: The base}
"""
PARAMS = """\
table: t
datasets: {}
models:
  ours: {from: shards/small, split: scripts, image_size: 28, method: {name: pixels}}
evaluation: {columns: [5w1s, 20w1s, 20w5s]}
rows:
  v2.1: {model: ours, dataset: small}
  other: {model: ours, dataset: small}
comparisons: {}
report:
  title: The table
  titles: {other: Another row}
  paper: {v2.1: 98.1 / – / 98.5, other: 42.0 / 93.8 / 50}
  notes: {other: a note}
"""
DETAILS = Details({column: ColumnResult(97.0, 0.1, 100, 5) for column in ("5w1s", "20w1s", "20w5s")},
                  SecondsSpent(0.0, 1.0), Machine("a processor", 2, None, "2.13.0"),
                  DatasetUsed("small", "scripts", "test", "ab" * 32), ModelUsed("t/ours", 0, 0, 0))
LOCKS = {"base": Path("dvc.lock"), "t": Path("experiments/t/dvc.lock")}
CHANGED = "the parameters or the code of {} changed since"
Lock = dict[str, dict]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def locked(deps: dict[str, str], outs: dict[str, str]) -> dict:
    """A stage as dvc.lock has it."""
    return {"cmd": "python", **{kind: [{"path": path, "md5": digest} for path, digest in entries.items()]
                                for kind, entries in (("deps", deps), ("outs", outs))}}


def resolved(table: str, name: str) -> dict[str, str]:
    """The stage's own file in data/resolved."""
    text = resolve.resolved_files(read_params(table))[name]
    return {f"data/resolved/{table}/{name}": hashlib.md5(text.encode()).hexdigest()}


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stage -> version of its code: reading ours takes seconds."""
    versions: dict[str, str] = {}
    monkeypatch.setattr(resolve, "_code", lambda stage, methods, root: {"code.py": versions.get(stage, "1")})
    return versions


@pytest.fixture
def evaluated(code: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row v2.1 has been evaluated by `dvc repro`, the other row has not."""
    monkeypatch.chdir(tmp_path)
    for variable in ("MATCHNET_MIRROR", "RAY_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    Path("experiments/t").mkdir(parents=True)
    Path("params.yaml").write_text(ROOT_PARAMS)
    Path("experiments/t/params.yaml").write_text(PARAMS)
    files = paths.metrics_file("t/v2.1"), paths.details_file("t/v2.1")
    write_metrics(files[0], DETAILS)
    write_details(files[1], DETAILS)
    write_lock("base", {
        "download@small": locked(resolved("base", "download/small.json"), {"data/raw/small": "0a.dir"}),
        "shard@small": locked(resolved("base", "shard/small.json") | {"data/raw/small": "0a.dir"},
                              {"data/shards/small": "0b.dir"})})
    write_lock("t", {
        "train@ours": locked(resolved("t", "train/ours.json") | {"data/shards/small": "0b.dir"},
                             {"data/models/t/ours": "0c.dir"}),
        "evaluate@v2.1": locked(
            resolved("t", "evaluate/v2.1.json") | {"data/models/t/ours": "0c.dir", "data/shards/small": "0b.dir"},
            {"data/evaluations/t/v2.1": "0d.dir", **{path.as_posix(): md5(path) for path in files}})})


def write_lock(table: str, stages: Lock) -> None:
    with open(LOCKS[table], "w") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)


def relock(table: str, change: Callable[[Lock], object]) -> None:
    stages = YAML(typ="safe").load(LOCKS[table].read_text())["stages"]
    change(stages)
    write_lock(table, stages)


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert text.count(old) == 1
    Path(path).write_text(text.replace(old, new))


def rows() -> dict[str, Row]:
    return {row.info.name: row for row in collect_table(read_params("t")).rows}


def test_a_title_is_the_rows_name_unless_one_is_given(evaluated: None) -> None:
    assert {name: row.info.title for name, row in rows().items()} == {"t/v2.1": "v2.1", "t/other": "Another row"}


def test_the_papers_figures_are_in_the_order_of_the_columns_and_a_dash_is_none(evaluated: None) -> None:
    assert rows()["t/v2.1"].info.paper == {"5w1s": 98.1, "20w5s": 98.5}
    assert rows()["t/other"].info.paper == {"5w1s": 42.0, "20w1s": 93.8, "20w5s": 50.0}


def test_a_row_knows_its_note_its_command_and_what_was_measured(evaluated: None) -> None:
    assert [row.info.note for row in rows().values()] == ["", "a note"]
    assert rows()["t/v2.1"].info.command == "dvc repro experiments/t/dvc.yaml:evaluate@v2.1"
    assert [row.details for row in rows().values()] == [DETAILS, None]
    assert all(row.info.stand_in for row in rows().values())  # glyphs stand in for the paper's data


def test_what_the_files_say_now_is_not_stale(evaluated: None) -> None:
    assert [row.stale for row in rows().values()] == ["", ""]


@pytest.mark.parametrize(("path", "old", "new"), [
    ("experiments/t/params.yaml", "title: The table", "title: A table\n  about: all of it"),
    ("experiments/t/params.yaml", "notes: {", "notes: {v2.1: why, "),
    ("experiments/t/params.yaml", "98.1 / –", "99.9 / 98"),
    ("experiments/t/params.yaml", "rows:", "rows:\n  new: {model: ours, dataset: small}"),
    ("experiments/t/params.yaml", "other: {model: ours,", "other: {model: ours, episodes: 50,"),
    ("params.yaml", "report:", "cluster: {max_failures: 7}\nreport:")])
def test_what_cannot_change_a_figure_makes_none_stale(evaluated: None, path: str, old: str, new: str) -> None:
    edit(path, old, new)
    assert [row.stale for row in rows().values() if row.details] == [""]


@pytest.mark.parametrize(("path", "old", "new", "stage"), [
    ("experiments/t/params.yaml", "v2.1: {model: ours,", "v2.1: {model: ours, episodes: 50,", "its evaluation"),
    ("experiments/t/params.yaml", "[5w1s, 20w1s,", "[5w1s, 19w1s,", "its evaluation"),
    ("experiments/t/params.yaml", "image_size: 28", "image_size: 20", "train@ours"),
    ("params.yaml", "report:", "compute: {precision: fp32}\nreport:", "train@ours"),
    ("params.yaml", "num_valid: 1", "num_valid: 2", "shard@small")])
def test_other_parameters_make_a_row_stale_that_has_run(evaluated: None, path: str, old: str, new: str,
                                                        stage: str) -> None:
    edit(path, old, new)
    assert [row.stale for row in rows().values()] == [CHANGED.format(stage), ""]


@pytest.mark.parametrize(("changed", "stage"), [("evaluate", "its evaluation"), ("train", "train@ours"),
                                                ("shard", "shard@small"), ("download", "download@small")])
def test_other_code_makes_a_row_stale(evaluated: None, code: dict[str, str], changed: str, stage: str) -> None:
    code[changed] = "2"
    assert [row.stale for row in rows().values()] == [CHANGED.format(stage), ""]


@pytest.mark.parametrize("changed", ["report", "compare"])
def test_the_code_of_other_stages_makes_none_stale(evaluated: None, code: dict[str, str], changed: str) -> None:
    code[changed] = "2"
    assert [row.stale for row in rows().values()] == ["", ""]


def other_output(stages: Lock, stage: str) -> None:
    stages[stage]["outs"][0]["md5"] = "ff.dir"


@pytest.mark.parametrize(("table", "change", "reason"), [
    ("t", lambda stages: other_output(stages, "train@ours"), "data/models/t/ours was made anew since"),
    ("base", lambda stages: other_output(stages, "shard@small"), "data/shards/small was made anew since"),
    ("base", lambda stages: other_output(stages, "download@small"), "data/raw/small was made anew since"),
    ("base", lambda stages: stages.pop("shard@small"), "dvc.lock does not have shard@small"),
    ("t", lambda stages: stages.pop("train@ours"), "dvc.lock does not have train@ours"),
    ("t", lambda stages: stages.pop("evaluate@v2.1"),
     "made by an earlier version: dvc.lock does not have the evaluation")])
def test_what_a_row_was_made_from_is_not_of_now(evaluated: None, table: str, change: Callable[[Lock], object],
                                                reason: str) -> None:
    relock(table, change)
    assert [row.stale for row in rows().values()] == [reason, ""]


def test_results_without_any_lock_are_stale(evaluated: None) -> None:
    for path in LOCKS.values():
        path.unlink()
    assert rows()["t/v2.1"].stale == "made by an earlier version: dvc.lock does not have the evaluation"


def test_results_that_were_edited_are_stale(evaluated: None) -> None:
    path = paths.metrics_file("t/v2.1")
    edit(str(path), '"5w1s": 97.0', '"5w1s": 98.0')
    assert rows()["t/v2.1"].stale == (f"{path} is not what dvc.lock says: it was changed, or "
                                      "committed without dvc.lock")


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["report", *words])
    report.main()
    return capsys.readouterr().out


def test_the_stage_writes_the_report_and_prints_tables(
        evaluated: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "with curves and pictures" not in printed(capsys, monkeypatch, "--table")
    assert printed(capsys, monkeypatch, "t") == ""
    assert all("The table" in Path(f"results/t.{kind}").read_text() for kind in ("md", "html"))
    everything, one = (printed(capsys, monkeypatch, "--table", *names) for names in ([], ["t"]))
    assert everything == one  # the base has no results
    assert one.startswith("The table (on other data than the paper's)\n")
    assert one.endswith("with curves and pictures: results/t.html\n")
    assert printed(capsys, monkeypatch, "--table", "base") == "The base: no results yet\n"
    paths.details_file("t/v2.1").unlink()
    assert printed(capsys, monkeypatch, "--table").startswith("no results yet: run `dvc repro`\n")


@pytest.mark.parametrize(("words", "message"), [
    (["tt"], "ParamsError: there is no table 'tt'; did you mean 't'?"),
    (["--table", "omniglot"], "ParamsError: there is no table 'omniglot'; known are base, t")])
def test_a_table_that_is_not_there(evaluated: None, monkeypatch: pytest.MonkeyPatch, words: list[str],
                                   message: str) -> None:
    monkeypatch.setattr(sys, "argv", ["report", *words])
    with pytest.raises(SystemExit) as ended:
        report.main()
    assert ended.value.code == message
