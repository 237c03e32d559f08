"""A stage is stale when code that it runs was edited, and no other stage is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT
from ruamel.yaml import YAML

from pipeline.stage_code import PACKAGES, code_hash, methods, stage_code

STAGES = ("download", "shard", "report")
WITH_A_METHOD = ("train", "evaluate", "compare")


def stages_of(root: Path) -> dict[str, dict[str, str]]:
    """`shard`, `train-pixels`, ... -> the hash of each file that it runs."""
    named = [(stage, "") for stage in STAGES]
    named += [(stage, method) for stage in WITH_A_METHOD for method in methods(root)]
    return {f"{stage}-{method}".strip("-"): {path.as_posix(): code_hash(root / path)
                                             for path in stage_code(stage, method, root)} for stage, method in named}


@pytest.fixture(scope="module")
def before() -> dict[str, dict[str, str]]:
    return stages_of(ROOT)


@pytest.fixture
def stale_after(before: dict[str, dict[str, str]], tmp_path: Path) -> Callable[[str, Callable[[str], str]], set[str]]:
    """The stages that an edit of one file, in a copy of all, makes stale."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def edit_one(edited: str, edit: Callable[[str], str]) -> set[str]:
        path = tmp_path / edited
        path.write_text(edit(path.read_text(encoding="utf-8") if path.exists() else ""), encoding="utf-8")
        return {stage for stage, code in stages_of(tmp_path).items() if code != before.get(stage)}

    return edit_one


def add(line: str) -> Callable[[str], str]:
    return lambda text: f"{text}\n{line}\n"


def of(method: str, *stages: str) -> set[str]:
    return {f"{stage}-{method}" for stage in stages or WITH_A_METHOD}


EVERY_METHOD = methods(ROOT)
EVERY_STAGE_WITH_A_METHOD = set().union(*(of(method) for method in EVERY_METHOD))


@pytest.mark.parametrize(("edited", "stale"), [
    ("matchnet/episodes.py", EVERY_STAGE_WITH_A_METHOD),
    ("matchnet/methods/siamese.py", of("siamese")),
    ("matchnet/training.py", {stage for stage in EVERY_STAGE_WITH_A_METHOD if stage.startswith("train")}),
    ("pipeline/data/formats/tar.py", None),
    ("pipeline/results/report_html.py", {"report"}),
    ("pipeline/data/lists/ravi_test.txt", {"download", "shard"}),
    ("pipeline/data/raw/datasets/glyphs.py", {"download", "shard"}),
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
    every = {path.name for path in (ROOT / "pipeline/data/lists").iterdir()}  # without the tree: they do not read it
    assert lists == {"download": every, "shard": every, "train": {"imagenet_tree.txt"}, "report": set()}


def test_every_table_has_the_same_stages():
    """But for its folder; the demo's, in the root, are the same without the way back to the root."""
    files = {path.parent.name: path.read_text(encoding="utf-8") for path in ROOT.glob("experiments/*/dvc.yaml")}
    assert files.keys() == {path.parent.name for path in ROOT.glob("experiments/*/params.yaml")}
    stages = {name: text.replace(f"experiments/{name}", "TABLE").replace(f"resolved/{name}", "resolved/TABLE")
              for name, text in files.items()}
    own = "        - ${item.folder.path} # so that a picture more makes the table stale\n"
    assert own in stages["folder"]
    stages["folder"] = stages["folder"].replace(own, "")
    assert len(set(stages.values())) == 1
    table = YAML(typ="safe").load(next(iter(stages.values())))["stages"]
    demo = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert table.keys() == demo.keys()
    for name, stage in table.items():
        own = stage.get("do", stage)
        assert own.pop("wdir") == "../.."
        if name == "resolve":
            own["deps"].remove("TABLE/params.yaml")
            own.update(cmd=own["cmd"].replace("TABLE", "."), outs=["data/resolved/demo"])
        assert stage == demo[name]
        assert name == "resolve" or any(dep.startswith("data/resolved/${table}/") for dep in own["deps"])
