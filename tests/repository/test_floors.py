"""Imports go down only: stages -> pipeline -> matchnet; inside pipeline training, results -> data -> params."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

ABOVE_DATA = ("pipeline.training", "pipeline.results", "pipeline.evaluate", "pipeline.workers.ray_tasks")
ABOVE_SYSTEM = ("pipeline.data", "pipeline.cluster", "pipeline.workers", *ABOVE_DATA)
ROOMS_OF_DATA = ("formats", "raw", "shards", "nodes", "load")  # as data flows: each imports those before it alone
ROOMS_OF_PICTURES = {"pictures"}  # of matchnet: they may import Pillow, and nothing else of matchnet imports them


def imported_modules(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            names.add(node.module or "")
    return names


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("file", files("matchnet"), ids=lambda path: path.stem)
def test_matchnet_imports_torch_and_numpy_only_and_pillow_in_rooms_of_pictures(file):
    allowed = {"torch", "numpy", "matchnet", *sys.stdlib_module_names}
    allowed |= {"PIL"} if file.relative_to(ROOT).parts[1] in ROOMS_OF_PICTURES else set()
    for module in imported_modules(file):
        assert module.split(".")[0] in allowed, f"{file} imports {module}"


def test_equations_know_nothing_of_pictures():
    for file in files("matchnet"):
        if file.relative_to(ROOT).parts[1] not in {*ROOMS_OF_PICTURES, "__init__.py"}:  # it names what users import
            rooms = {module.split(".")[1] for module in imported_modules(file) if module.startswith("matchnet.")}
            assert not rooms & ROOMS_OF_PICTURES, f"{file} imports {rooms & ROOMS_OF_PICTURES}"


@pytest.mark.parametrize(("folder", "forbidden"), [
    ("pipeline", ("stages", "benchmarks", "tests")),
    ("pipeline/system", ("stages", "pipeline.params", "ray", *ABOVE_SYSTEM)),
    ("pipeline/data", ("stages", "ray", *ABOVE_DATA)),
    ("pipeline/params", ("stages", "ray", *ABOVE_DATA)),
    ("pipeline/cluster", ("stages", *ABOVE_DATA)),
    ("pipeline/results", ("stages", "pipeline.training", "pipeline.evaluate", "ray")),
    ("pipeline/training", ("stages", "pipeline.results", "pipeline.evaluate")),
    ("pipeline/submission", ("stages", "pipeline.training", "pipeline.results", "pipeline.evaluate")),
])
def test_a_room_imports_nothing_above_it(folder, forbidden):
    for file in files(folder):
        for module in imported_modules(file):
            assert not any(module == name or module.startswith(f"{name}.") for name in forbidden), f"{file}: {module}"


@pytest.mark.parametrize("room", ROOMS_OF_DATA)
def test_a_room_of_data_imports_none_that_comes_after_it(room: str) -> None:
    after = tuple(f"pipeline.data.{name}." for name in ROOMS_OF_DATA[ROOMS_OF_DATA.index(room) + 1:])
    for file in files(f"pipeline/data/{room}"):
        for module in imported_modules(file):
            assert not f"{module}.".startswith(after), f"{file}: {module}"


def test_ray_is_imported_in_two_rooms_and_two_files_only():
    """Everything else works, and is tested, without it."""
    for folder in ("matchnet", "pipeline", "stages"):
        for file in files(folder):
            if any(module.split(".")[0] == "ray" for module in imported_modules(file)):
                assert file.parent.name in ("cluster", "submission") or file.stem in ("ray_training", "ray_tasks"), file


@pytest.mark.parametrize("module", ["benchmarks.inception_training", "stages.train", "stages.shard", "stages.evaluate"])
def test_one_machine_needs_no_ray(module: str) -> None:
    without_ray = f"import sys; sys.modules['ray'] = None; import {module}"
    subprocess.run([sys.executable, "-c", without_ray], cwd=ROOT, check=True)
