"""Imports go down only: stages -> pipeline -> matchnet; and inside pipeline results, training -> data -> params."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
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
    ("pipeline/data", ("stages", "pipeline.training", "pipeline.results", "pipeline.experiment", "ray")),
    ("pipeline/params", ("stages", "pipeline.training", "pipeline.results", "pipeline.experiment", "ray")),
    ("pipeline/results", ("stages", "pipeline.training", "pipeline.experiment", "ray")),
    ("pipeline/training", ("stages", "pipeline.results", "pipeline.experiment")),
    ("pipeline/submission", ("stages", "pipeline.training", "pipeline.results", "pipeline.experiment")),
])
def test_a_room_imports_nothing_above_it(folder, forbidden):
    for file in files(folder):
        for module in imported_modules(file):
            assert not any(module == name or module.startswith(f"{name}.") for name in forbidden), f"{file}: {module}"


def test_ray_is_imported_in_two_rooms_and_one_file_only():
    """Everything else works, and is tested, without it."""
    for folder in ("matchnet", "pipeline", "stages"):
        for file in files(folder):
            if any(module.split(".")[0] == "ray" for module in imported_modules(file)):
                assert file.parent.name in ("training", "submission") or file.name == "ray_jobs.py", \
                    f"{file} imports ray"


def test_the_benchmark_for_a_gpu_runs_where_there_is_no_ray() -> None:
    without_ray = "import sys; sys.modules['ray'] = None; import benchmarks.inception_training"
    subprocess.run([sys.executable, "-c", without_ray], cwd=ROOT, check=True)
