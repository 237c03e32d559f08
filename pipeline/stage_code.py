"""The code that each stage runs, and the hash of each file: if it changes, the stage's results are stale.

A stage runs the modules that its module imports, directly or not, anywhere in a file. Among the methods it runs only
its own. Code that only decides where and how something runs is left out. Comments, docstrings and empty lines do not
count.
"""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGES = ("matchnet", "pipeline", "stages")
STAGES = ("download", "shard", "report")
STAGES_WITH_A_METHOD = ("train", "evaluate", "compare")
METHODS = Path("matchnet/methods")
DATASETS = Path("pipeline/data/raw/datasets")
READ = (".txt", ".html", ".css")  # lists, and the templates of the report
CHOICE = METHODS / "__init__.py"  # builds the method that the parameters name
# Code that cannot change a result. Parameters are dependencies by their values; users import matchnet/__init__.py.
HARMLESS = ("pipeline/params", "pipeline/data/spec.py", "pipeline/data/source_spec.py", "pipeline/data/checks.py",
            "matchnet/messages.py", "pipeline/system/progress.py", "pipeline/workers/ray_tasks.py",
            "pipeline/paths.py", "stages/command.py", "matchnet/__init__.py")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def methods(root: Path) -> list[str]:
    """The modules of methods that parameters can name: their spec has the module's own name as `name`."""
    return sorted(path.stem for path in (root / METHODS).glob("*.py")
                  if any(isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "name"
                         and isinstance(node.value, ast.Constant) and node.value.value == path.stem
                         for node in ast.walk(_parsed(path))))


@cache
def stage_code(stage: str, method: str = "", root: Path = Path()) -> list[Path]:
    """The files that the stage runs, relative to `root`: modules, and the lists that they read."""
    files = _closure(root, Path("stages", f"{stage}.py"))
    if method:
        files |= _closure(root, METHODS / f"{method}.py")
    if stage in ("download", "shard"):  # the module of a dataset is imported by its name
        for module in (root / DATASETS).glob("*.py"):
            files |= _closure(root, module.relative_to(root))
    return sorted(files | {data for file in files for data in _data_files(root, file)})


@cache
def code_hash(path: Path) -> str:
    """SHA-256 of a file's text; for Python without comments, docstrings and empty lines. Not of the interpreter."""
    text = path.read_text(encoding="utf-8")
    return hashlib.sha256((_without_remarks(text) if path.suffix == ".py" else text).encode()).hexdigest()


def _without_remarks(text: str) -> str:
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            first, last = node.body[0].lineno, node.body[0].end_lineno or 0
            lines[first - 1:last] = [""] * (last - first + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _closure(root: Path, file: Path) -> set[Path]:
    """A file and everything of ours that it imports, directly or not, by ways that can change a result."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        file = waiting.pop()
        if file not in seen and file != CHOICE and not _is_below(file, HARMLESS):
            seen.add(file)
            waiting += _imported_files(root, file)
    return seen


def _is_below(file: Path, places: Iterable[str]) -> bool:
    return any(file == Path(place) or Path(place) in file.parents for place in places)


@cache
def _imported_files(root: Path, file: Path) -> frozenset[Path]:
    """The files of our packages that a file imports itself, anywhere in it, their packages' __init__ included."""
    modules: set[str] = set()
    for node in ast.walk(_parsed(root / file)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {module for module in modules if module.split(".")[0] in PACKAGES}
    with_parents = {module.rsplit(".", depth)[0] for module in ours for depth in range(module.count(".") + 1)}
    return frozenset(found for module in with_parents if (found := _module_file(root, module)))


def _module_file(root: Path, module: str) -> Path | None:
    path = Path(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if (root / file).is_file()), None)


@cache
def _data_files(root: Path, file: Path) -> frozenset[Path]:
    """Files of the folders beside a module that it names: the files it also names, or all if it names none."""
    strings = {node.value for node in ast.walk(_parsed(root / file))
               if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found: set[Path] = set()
    for folder in (file.parent / name for name in strings if name.isidentifier()):
        files = [] if _module_file(root, ".".join(folder.parts)) else _files(root, folder)
        found |= {path for path in files if path.name in strings} or set(files)
    return frozenset(found)


def _files(root: Path, folder: Path) -> list[Path]:
    return [path.relative_to(root) for path in (root / folder).glob("*") if path.suffix in READ]


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
