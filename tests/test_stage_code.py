"""A stage is stale when code that it runs was edited, and no other stage is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.stage_code import (
    PACKAGES,
    STAGES,
    STAGES_WITH_A_METHOD,
    code_hash,
    methods,
    stage_code,
    write_stage_code,
)

ROOT = Path(__file__).parent.parent


def stages_of(folder: Path) -> dict[str, str]:
    """`shard`, `train-pixels`, ... -> what its file says."""
    return {path.stem: path.read_text() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("before")
    write_stage_code(folder, ROOT)
    return stages_of(folder)


@pytest.fixture
def stale_after(before: dict[str, str], tmp_path: Path) -> Callable[[str, Callable[[str], str]], set[str]]:
    """The stages that an edit of one file, in a copy of all, makes stale."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def edit_one(edited: str, edit: Callable[[str], str]) -> set[str]:
        path = tmp_path / edited
        path.write_text(edit(path.read_text(encoding="utf-8") if path.exists() else ""), encoding="utf-8")
        write_stage_code(tmp_path / "after", tmp_path)
        return {stage for stage, code in stages_of(tmp_path / "after").items() if code != before.get(stage)}

    return edit_one


def add(line: str) -> Callable[[str], str]:
    return lambda text: f"{text}\n{line}\n"


def of(method: str, *stages: str) -> set[str]:
    return {f"{stage}-{method}" for stage in stages or STAGES_WITH_A_METHOD}


EVERY_METHOD = methods(ROOT)
WITH_A_METHOD = set().union(*(of(method) for method in EVERY_METHOD))


@pytest.mark.parametrize(("edited", "stale"), [
    ("matchnet/episodes.py", WITH_A_METHOD),
    ("matchnet/methods/siamese.py", of("siamese")),
    ("matchnet/training.py", {stage for stage in WITH_A_METHOD if stage.startswith("train")}),
    ("pipeline/data/tar.py", None),
    ("pipeline/results/report_html.py", {"report"}),
    ("pipeline/data/lists/ravi_test.txt", {"download", "shard"}),
    ("pipeline/data/datasets/glyphs.py", {"download", "shard"}),
    ("pipeline/params/rules.py", set()),
    ("pipeline/submit.py", set()),
])
def test_what_an_edit_makes_stale(stale_after, edited, stale):
    found = stale_after(edited, add("x = 1"))
    if stale is None:
        assert {"shard", "train-pixels"} <= found and "report" not in found
    else:
        assert found == stale


def test_a_new_method_makes_nothing_else_stale(stale_after):
    assert stale_after("matchnet/methods/new.py", add('class Spec:\n    name: str = "new"')) == of("new")


SMALL = 'def one(x):\n    """One."""\n    if x:\n        return f"# {x} #"\n    return 1\n'


@pytest.mark.parametrize(("old", "new", "same"), [
    ("def", "# a remark\ndef", True), ("def", '"""Of the module."""\n\ndef', True), ("One.", "One,\n\n    more.", True),
    ('    """One."""\n', "", True), ("    return 1", "    # why\n\n    return 1", True), ("x:\n", "x:  # why\n", True),
    ("return 1\n", "return 1", True), ("return 1", "return 2", False), ("# {x}", "## {x}", False),
    ("    return 1", "        return 1", False), ("def one", "one = 1\ndef one", False)])
def test_remarks_do_not_count(tmp_path, old, new, same):
    for name, text in (("before", SMALL), ("after", SMALL.replace(old, new))):
        assert name == "before" or text != SMALL
        (tmp_path / f"{name}.py").write_text(text)
    assert (code_hash(tmp_path / "before.py") == code_hash(tmp_path / "after.py")) is same


def test_what_a_stage_reads_beside_its_code_counts():
    lists = {stage: {path.name for path in stage_code(stage, "pixels" if stage == "train" else "", ROOT)
                     if path.suffix == ".txt"} for stage in ("download", "shard", "train", "report")}
    every = {path.name for path in (ROOT / "pipeline/data/lists").iterdir()}
    assert lists == {"download": every, "shard": every, "train": {"imagenet_tree.txt"}, "report": set()}


def test_every_stage_depends_on_its_code():
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert stages.pop("code")["deps"] == list(PACKAGES)
    wanted = {stage: [f"data/code/{stage}.txt"] for stage in STAGES}
    wanted |= {stage: [f"data/code/{stage}-${{item.method}}.txt"] for stage in STAGES_WITH_A_METHOD}
    wanted["train_on"] = wanted["train"]
    wanted["compare"] = [*wanted["compare"], "data/code/compare-${item.baseline_method}.txt"]
    found = {name: [dep for dep in stage.get("do", stage)["deps"] if dep.startswith("data/code/")]
             for name, stage in stages.items()}
    assert found == wanted


def test_every_experiment_stands_in_the_list_of_metrics():
    content = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    experiments = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))["experiments"]
    with_results = {name for name in experiments if (ROOT / "results" / name / "metrics.json").is_file()}
    listed = {path.split("/")[1] for path in content["metrics"]}
    remedy = "run `python -m stages.select` with the suites that dvc repro is to run"
    assert with_results <= listed, f"dvc.yaml: metrics: lacks {with_results - listed}; {remedy}"
    assert listed <= set(experiments), f"dvc.yaml: metrics: {listed - set(experiments)} are no experiments; {remedy}"
