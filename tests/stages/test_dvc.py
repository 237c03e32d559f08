"""`dvc repro` from an empty data folder to the report, in a copy of the repository with small tables."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from repository_copy import REPORT, ROWS, Copy, small_copy

TABLE = f"""\
table: small
datasets: {{}}
recipes:
  pixels: {{split: scripts, image_size: 12, method: {{name: pixels}}}}
models:
  lr0.01: {{recipe: pixels, from: shards/glyphs}}
  inverted: {{recipe: pixels, from: shards/glyphs, method: {{invert: true}}}}
{ROWS}  lr0.01: {{model: lr0.01, dataset: glyphs}}
  inverted: {{model: inverted, dataset: glyphs}}
comparisons:
  both: {{row: inverted, baseline: lr0.01, column: 5w1s}}
{REPORT.replace('comparisons: {}', '')}"""
WIDTH = 120


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    copy = small_copy(tmp_path_factory.mktemp("clone"))
    copy.write(TABLE, "experiments/small")
    copy.commit()
    return copy


def test_everything_runs_then_nothing_then_only_what_a_change_touches(copy):
    first = copy.run("dvc", "repro")
    assert copy.ran(first) == ["resolve", "download@glyphs", "shard@glyphs", "train@pixels", "evaluate@pixels",
                               "report"]
    metrics = json.loads((copy.folder / "results/metrics/demo/pixels.json").read_text(encoding="utf-8"))
    details = json.loads((copy.folder / "results/details/demo/pixels.json").read_text(encoding="utf-8"))
    assert metrics == {column: round(found["accuracy"], 2) for column, found in details["columns"].items()}
    table = copy.run(sys.executable, "-m", "stages.report", "--table")
    assert "5-way 1-shot" in table and "*" not in table
    for name in ("demo.html", "demo.md", "curves/demo/pixels.csv"):
        assert (copy.folder / "results" / name).is_file()
    copy.commit()
    assert copy.run("git", "status", "--porcelain") == "", "what a run writes is committed or ignored"

    assert copy.ran(copy.run("dvc", "repro")) == []
    for edit, stale in (("# a remark", ["resolve"]), ("x = 1", ["resolve", "report"])):
        with open(copy.folder / "pipeline/results/report.py", "a", encoding="utf-8") as file:
            file.write(f"{edit}\n")
        assert copy.ran(copy.run("dvc", "repro")) == stale
    copy.set("report.title", "Another title")
    assert copy.ran(copy.run("dvc", "repro")) == ["resolve", "report"]
    copy.set("evaluation.episodes", 60)
    assert "* pixels: the parameters or the code of its evaluation changed" in copy.run(
        sys.executable, "-m", "stages.report", "--table")
    assert copy.ran(copy.run("dvc", "repro")) == ["resolve", "evaluate@pixels", "report"]
    for command, found in ((("metrics", "diff"), "results/metrics/demo/pixels.json"),
                           (("metrics", "show"), "results/metrics/demo/pixels.json"),
                           (("params", "diff"), "evaluation.episodes")):
        shown = copy.run("dvc", *command)
        assert found in shown and "WARNING" not in shown and "failed" not in shown
        assert max(map(len, shown.splitlines())) <= WIDTH, shown
    assert "failed" not in copy.run("dvc", "plots", "diff")


def test_a_table_runs_with_what_it_needs_of_others(copy):
    """A row alone, then all of it; names with dots work."""
    one = copy.run("dvc", "repro", "experiments/small/dvc.yaml:evaluate@lr0.01")
    assert [stage for stage in copy.ran(one) if "small" in stage] == [
        f"experiments/small/dvc.yaml:{stage}" for stage in ("resolve", "train@lr0.01", "evaluate@lr0.01")]
    everything = copy.run("dvc", "repro", "experiments/small/dvc.yaml")
    assert copy.ran(everything) == [f"experiments/small/dvc.yaml:{stage}" for stage in (
        "train@inverted", "evaluate@inverted", "compare@both", "report")]
    assert (copy.folder / "results/comparisons/small/both.json").is_file()
    assert copy.ran(copy.run("dvc", "repro")) == [], "a plain repro leaves tables alone"
    copy.commit()


def test_a_new_row_makes_nothing_else_stale_and_an_old_value_costs_nothing(copy):
    file = copy.folder / "experiments/small/params.yaml"
    before = file.read_text(encoding="utf-8")
    target = "experiments/small/dvc.yaml"
    copy.set("rows.more", {"model": "inverted", "dataset": "glyphs", "columns": ["3w1s"]}, "experiments/small")
    assert copy.ran(copy.run("dvc", "repro", target)) == [f"{target}:{stage}" for stage in (
        "resolve", "evaluate@more", "report")]
    copy.set("models.inverted.method.invert", False, "experiments/small")
    assert f"{target}:train@inverted" in copy.ran(copy.run("dvc", "repro", target))
    file.write_text(before, encoding="utf-8")
    again = copy.ran(copy.run("dvc", "repro", target))
    assert not [stage for stage in again if "train" in stage], "the run cache has it"


def test_exp_run_changes_one_line_and_runs_what_it_reaches(copy):
    copy.commit()
    target = "experiments/small/dvc.yaml"
    output = copy.run("dvc", "exp", "run", "-S", "experiments/small/params.yaml:evaluation.episodes=70", target)
    assert [stage.partition(":")[2] for stage in copy.ran(output)] == [
        "resolve", "evaluate@lr0.01", "evaluate@inverted", "compare@both", "report"]
    changed = [line for line in copy.run("git", "diff", "-U0", "experiments/small/params.yaml").splitlines()
               if re.match(r"[+-][^+-]", line)]
    assert [line.partition("episodes: ")[2][:2] for line in changed] == ["50", "70"]
    assert "evaluation.episodes" in copy.run("dvc", "params", "diff")
    assert "Experiment" in copy.run("dvc", "exp", "show", "--only-changed", "--no-pager")
    copy.run("git", "checkout", "experiments/small/params.yaml")


@pytest.mark.parametrize("name", ["a@b", "my exp", "a;touch X", "x'; touch X; '", "../x", "x #y"])
def test_a_name_that_is_none_is_refused_before_any_work(copy, name):
    file = copy.folder / "experiments/small/params.yaml"
    before = file.read_text(encoding="utf-8")
    quoted = "'" + name.replace("'", "''") + "'"
    file.write_text(before.replace("rows:\n", f"rows:\n  {quoted}: {{model: inverted, dataset: glyphs}}\n"),
                    encoding="utf-8")
    try:
        done = copy.try_to_run("dvc", "repro", "experiments/small/dvc.yaml")
    finally:
        file.write_text(before, encoding="utf-8")
    said = done.stdout + done.stderr
    assert done.returncode != 0 and not (copy.folder / "X").exists()
    # DVC itself takes no second @, and names the stage
    assert f"rows.{name}: the name {name!r} cannot be used" in said or (name == "a@b" and "evaluate@a@b" in said), said
    assert "Running stage 'experiments/small/dvc.yaml:evaluate" not in said


def test_a_dataset_named_like_a_command_is_refused_before_any_work(copy):
    before = (copy.folder / "params.yaml").read_text(encoding="utf-8")
    text = before.replace("  glyphs:\n    source", "  glyphs;touch X:\n    source").replace(
        "shards/glyphs", "shards/glyphs;touch X").replace("dataset: glyphs", "dataset: glyphs;touch X")
    copy.write(text)
    try:
        done = copy.try_to_run("dvc", "repro")
    finally:
        copy.write(before)
    assert done.returncode != 0 and not (copy.folder / "X").exists()
    assert "datasets.glyphs;touch X: the name 'glyphs;touch X' cannot be used" in done.stdout + done.stderr


def test_a_mistake_in_the_parameters_stops_it_before_any_work(copy):
    before = (copy.folder / "params.yaml").read_text(encoding="utf-8")
    copy.set("recipes.conv4.method.attention", {"kernel": "cosin"})
    copy.write((copy.folder / "params.yaml").read_text().replace(
        "models:\n", "models:\n  other: {recipe: conv4, from: shards/glyphs}\n"))
    try:
        done = copy.try_to_run(sys.executable, "-m", "stages.train", "demo/pixels")
    finally:
        copy.write(before)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"params\.yaml:\d+: recipes\.conv4\.method\.attention\.kernel: found 'cosin'; write one of cosine",
                     done.stderr)


@pytest.mark.slow
def test_ctrl_c_in_training_and_the_same_command_goes_on(tmp_path):
    copy = small_copy(tmp_path / "clone", trained=True)
    copy.set("recipes.conv4.training.steps", 300)
    copy.commit()
    copy.run("dvc", "repro", "shard@glyphs")
    process = subprocess.Popen(["dvc", "repro"], cwd=copy.folder, env=copy.environment, start_new_session=True)
    while process.poll() is None and not list(copy.folder.glob("data/runs/*/step*/state.pt")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() != 0
    assert not (copy.folder / "data/models/demo/matching/model.pt").exists()
    output = copy.run("dvc", "repro")
    assert "demo/matching: goes on from step" in output
    assert copy.ran(output) == ["train@matching", "evaluate@matching", "report"]
    assert list((copy.folder / "data/runs").iterdir()) == [], "nothing is left of a run that succeeded"
