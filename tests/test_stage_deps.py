"""dvc.yaml says of every stage which code it runs; what it leaves out would not make its results stale when edited."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
PACKAGES = ("matchnet", "pipeline", "stages")
STAGES = ("download", "shard", "train", "evaluate", "compare", "report")
METHODS = ("matching_network", "pixels", "classifier", "siamese", "mann", "language_model")
CHOICE = "matchnet/methods/__init__.py"  # builds the method that the parameters name
# What cannot change a result. Parameters are dependencies by their values.
HARMLESS = ("pipeline/params", "pipeline/data/spec.py", "pipeline/progress.py", "pipeline/ray_jobs.py",
            "stages/command.py")


def module_file(module: str) -> Path | None:
    """The file of one of our modules, or None for anything else."""
    path = ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


@cache
def imported_files(file: Path) -> frozenset[Path]:
    """The files of our packages that a file imports itself, anywhere in it, their packages' __init__ included."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {module for module in modules if module.split(".")[0] in PACKAGES}
    with_parents = {module.rsplit(".", depth)[0] for module in ours for depth in range(module.count(".") + 1)}
    return frozenset(found for module in with_parents if (found := module_file(module)))


def closure(file: Path) -> set[Path]:
    """A file and everything of ours that it imports, directly or not, by ways that can change a result."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        file = waiting.pop()
        if file not in seen and file != ROOT / CHOICE and not is_covered(file, HARMLESS):
            seen.add(file)
            waiting += imported_files(file)
    return seen


def declared(stage: str, method: str = "") -> list[str]:
    """The dependencies of a stage that are code."""
    content = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    deps = [dep.replace("${item.method}", method).replace("${item.baseline_method}", method)
            for dep in content.get("do", content)["deps"]]
    return [dep for dep in deps if dep.split("/")[0] in PACKAGES]


def is_covered(file: Path, deps: Iterable[str]) -> bool:
    return any(file == ROOT / dep or (ROOT / dep) in file.parents for dep in deps)


def needed_files(stage: str, method: str = "") -> set[Path]:
    """What the stage runs. Of the methods that is its own; the module of a dataset is imported by its name."""
    files = closure(ROOT / "stages" / f"{stage}.py")
    if method:
        files |= closure(ROOT / "matchnet/methods" / f"{method}.py")
    if stage in ("download", "shard"):  # others read the extension of the samples, no more
        for module in (ROOT / "pipeline/data/datasets").glob("*.py"):
            files |= closure(module)
    return {file for file in files if has_code(file) and not is_covered(file, HARMLESS)}


def has_code(file: Path) -> bool:
    """More than a docstring."""
    return len(ast.parse(file.read_text(encoding="utf-8")).body) > 1


def stages_and_methods() -> list[tuple[str, str]]:
    return [(stage, method) for stage in STAGES
            for method in (METHODS if stage in ("train", "evaluate", "compare") else ("",))]


@pytest.mark.parametrize(("stage", "method"), stages_and_methods())
def test_every_imported_file_is_a_dependency(stage, method):
    deps = declared(stage, method)
    missing = sorted(str(file.relative_to(ROOT)) for file in needed_files(stage, method) if not is_covered(file, deps))
    assert not missing, f"dvc.yaml: stage {stage} imports these and does not depend on them: {', '.join(missing)}"


@pytest.mark.parametrize(("stage", "method"), stages_and_methods())
def test_every_dependency_on_code_is_there(stage, method):
    for dep in declared(stage, method):
        assert (ROOT / dep).exists(), f"dvc.yaml: stage {stage} depends on {dep}, which is not there"


@pytest.mark.parametrize("stage", ["download", "shard"])
def test_editing_a_list_of_classes_makes_the_shards_again(stage):
    assert "pipeline/data/lists" in declared(stage)


def test_a_model_that_begins_with_another_depends_on_the_same_code():
    assert declared("train_on") == declared("train")


@pytest.mark.parametrize("stage", ["download", "shard", "train", "evaluate", "compare"])
def test_editing_the_report_makes_no_other_stage_stale(stage):
    for file in (ROOT / "pipeline/results").glob("report*.py"):
        assert not is_covered(file, declared(stage))


def test_every_experiment_stands_in_the_list_of_metrics():
    content = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    experiments = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))["experiments"]
    with_results = {name for name in experiments if (ROOT / "results" / name / "metrics.json").is_file()}
    listed = {path.split("/")[1] for path in content["metrics"]}
    remedy = "run `python -m stages.select` with the suites that dvc repro is to run"
    assert with_results <= listed, f"dvc.yaml: metrics: lacks {with_results - listed}; {remedy}"
    assert listed <= set(experiments), f"dvc.yaml: metrics: {listed - set(experiments)} are no experiments; {remedy}"


def test_adding_a_method_makes_no_model_of_another_stale():
    for stage in ("train", "evaluate"):
        assert not is_covered(ROOT / "matchnet/methods/siamese.py", declared(stage, "matching_network"))
        assert is_covered(ROOT / "matchnet/methods/siamese.py", declared(stage, "siamese"))
