"""Nothing that is loaded can run: no pickle, no code from a file, no command of a shell, in any package of ours."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

from pipeline.stage_code import PACKAGES

FILES = sorted(path for folder in (*PACKAGES, "benchmarks") for path in (ROOT / folder).rglob("*.py"))
RUN_WHAT_THEY_LOAD = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "code"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
# (attribute, its keyword, the only value of it that is right): torch.load(file, weights_only=True)
ONLY_WITH = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False),
             "numpy.load": ("allow_pickle", False)}
NEVER = {"torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "pandas.read_pickle", "pd.read_pickle",
         "yaml.load", "yaml.unsafe_load", "os.system", "os.popen", "subprocess.getoutput",
         "subprocess.getstatusoutput", "tarfile.TarFile.extractall"}
YAML_TYPES = {"safe", "rt"}  # of ruamel.yaml: plain values alone
MAY_CATCH = {"matchnet/weights.py": {"pickle.UnpicklingError"}}  # what torch raises for a file that holds more


def full_name(node: ast.expr) -> str:
    """`torch.load` of that expression; "" of what is no chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := full_name(node.value)):
        return f"{before}.{node.attr}"
    return ""


def keyword(call: ast.Call, name: str) -> object:
    return next((word.value.value for word in call.keywords
                 if word.arg == name and isinstance(word.value, ast.Constant)), None)


def faults(source: str, may_catch: set[str]) -> Iterator[str]:
    """What in this source could run what it loads."""
    tree = ast.parse(source)
    caught = {name.partition(".")[0] for name in may_catch}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            bad = {name for name in names if name.partition(".")[0] in RUN_WHAT_THEY_LOAD}
            yield from (f"imports {name}" for name in bad - (caught if isinstance(node, ast.Import) else set()))
        elif isinstance(node, ast.Attribute) and full_name(node).partition(".")[0] in caught:
            if full_name(node) not in may_catch:
                yield f"uses {full_name(node)}"
        elif isinstance(node, ast.Call):
            yield from faults_of_call(node)


def faults_of_call(call: ast.Call) -> Iterator[str]:
    name = full_name(call.func)
    if name in NEVER or name in BUILTINS:
        yield f"calls {name}"
    if name in ONLY_WITH and keyword(call, ONLY_WITH[name][0]) is not ONLY_WITH[name][1]:
        yield f"calls {name} without {ONLY_WITH[name][0]}={ONLY_WITH[name][1]}"
    if name.endswith("YAML") and keyword(call, "typ") not in YAML_TYPES:
        yield f"calls {name} without typ={' or '.join(sorted(YAML_TYPES))}"
    if keyword(call, "shell"):
        yield f"calls {name} with a shell"
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("extractall", "extract"):
        yield f"calls {call.func.attr}, which writes where an archive says"


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_runs_what_it_loads(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    assert not list(faults(file.read_text(encoding="utf-8"), MAY_CATCH.get(name, set()))), name


@pytest.mark.parametrize("source", [
    "import pickle", "from pickle import loads", "def f():\n    import cloudpickle", "torch.load(file)",
    "torch.load(file, weights_only=False)", "np.load(file, allow_pickle=True)", "np.load(file)", "YAML()",
    "ruamel.yaml.YAML(typ='unsafe')", "yaml.load(text)", "eval(text)", "subprocess.run(text, shell=True)",
    "os.system(text)", "archive.extractall(folder)", "torch.hub.load(name)"])
def test_what_is_looked_for_is_found(source: str) -> None:
    assert list(faults(source, set()))


def test_an_exception_of_pickle_may_be_caught_and_nothing_loaded() -> None:
    assert not list(faults("import pickle\ntry: f()\nexcept pickle.UnpicklingError: pass", {"pickle.UnpicklingError"}))
    assert list(faults("import pickle\npickle.loads(b'')", {"pickle.UnpicklingError"}))
