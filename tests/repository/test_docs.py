"""The documents: short sentences, and nothing named in them that is not there."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from statistics import median

import pytest
from places import ROOT

TEXTS = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
         *sorted(ROOT.glob("docs/**/*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in TEXTS]
LONGEST_README = 150  # lines
LONGEST_SENTENCE, MEDIAN_SENTENCE = 35, 18  # words
OURS = ("matchnet", "pipeline", "stages", "benchmarks", "tests")
FOLDERS = "|".join((*OURS, "experiments", "docs"))
FILE = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]+\.(?:py|yaml|txt|png|svg|csv)\b")
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b")  # TABLE, NAME
BLOCK = re.compile(r"^```.*?^```$|^(?: {4,}[^\n]*\n?)+", re.MULTILINE | re.DOTALL)
BREAK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )|\n(?=#)|(?<=#)\n")
ENTRY = re.compile(r"\n\s*\n|\n(?=\s*[-*] )|\n(?=Shapes|Args:|Returns:|Raises:|Attributes:)|\n    (?=[\w, ]+: )")
SENTENCE = re.compile(r"(?<=[.!?])\)?\s+(?=[A-Z`*\"(\[])")
NAMED_TEST = re.compile(r"\[(test_\w+\.py)::? ?(test_\w+)\]\(\.\./([^)]+)\)")


def sentences(text: str) -> Iterator[list[str]]:
    """The words of each sentence, of paragraphs and points of lists. Code counts as one word, tables not at all."""
    prose = "\n".join(line for line in BLOCK.sub("\n\n", text).splitlines() if not line.startswith(("|", "!", "#")))
    prose = re.sub(r"`[^`]+`", "X", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", prose))
    for paragraph in BREAK.split(prose):
        for sentence in SENTENCE.split(paragraph.strip()):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            if words:
                yield words


def docstrings(folder: str) -> Iterator[tuple[str, str]]:
    """Where each docstring of the modules of a folder stands, and its text."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'the module')}", text


def docstring_sentences(text: str) -> Iterator[list[str]]:
    """The words of each sentence, those of `Args:` and the like as well; a source in brackets is none."""
    for paragraph in ENTRY.split(re.sub(r"\[[^\]]*\]", "", text)):
        if not paragraph.startswith("    "):  # a formula
            yield from sentences(" ".join(paragraph.split()))


@cache
def definitions(file: str) -> frozenset[str]:
    """`attend`, `Attention`, `Attention.forward`: what a file defines."""
    found = set()
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return frozenset(found)


def require_tests(row: str) -> None:
    """A row of a table names a test, and each that it names, as `[test_file.py: test_name](../path)`, is there."""
    tests = NAMED_TEST.findall(row)
    assert len(tests) == len(re.findall(r"::? ?test_", row)) > 0, f"no test, or not as [file: test](../path): {row}"
    for shown_file, name, file in tests:
        assert file.endswith(f"/{shown_file}") and name in definitions(file), f"{file} has no {name}: {row}"


def exists(module: str) -> bool:
    """Whether `python -m module` finds something; of ours without importing it."""
    path = ROOT / module.replace(".", "/")
    if module.partition(".")[0] in OURS:
        return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    return importlib.util.find_spec(module) is not None


def test_a_reader_finishes_the_readme() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= LONGEST_README


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert not missing, f"{name} links to what is not there: {', '.join(missing)}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_files_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    modules = [module for module in re.findall(r"python -m ([\w.]+)", text) if not exists(module.rstrip("."))]
    files = [file for file in FILE.findall(text) if not PLACEHOLDER.search(file) and not (ROOT / file).exists()]
    assert not modules, f"{name} names python -m {modules[0]}, which is not there"
    assert not files, f"{name} names {files[0]}, which is not there"


@pytest.mark.parametrize("name", NAMES)
def test_sentences_are_short(name: str) -> None:
    found = list(sentences((ROOT / name).read_text(encoding="utf-8")))
    too_long = [" ".join(words) for words in found if len(words) > LONGEST_SENTENCE]
    fragments = [" ".join(words) for words in found if words[0] == "Of"]
    assert not fragments, f"{name}: a sentence begins with Of: {fragments[0]}"
    assert not too_long, f"{name}: {len(too_long[0].split())} words, more than {LONGEST_SENTENCE}: {too_long[0]}"
    assert median(map(len, found)) <= MEDIAN_SENTENCE


def test_docstrings_of_the_package_have_short_sentences() -> None:
    for place, text in docstrings("matchnet"):
        for words in docstring_sentences(text):
            assert len(words) <= LONGEST_SENTENCE, f"{place}: {len(words)} words: {' '.join(words)}"
            assert words[0] != "Of", f"{place}: begins with Of: {' '.join(words)}"


def test_the_equation_map_names_what_is_there() -> None:
    rows = [line for line in (ROOT / "docs/equations.md").read_text(encoding="utf-8").splitlines()
            if line.startswith("|") and ".py" in line]
    assert len(rows) > 20
    for row in rows:
        _, function, file, test, _ = (cell.strip() for cell in row.strip("|").split("|"))
        path = re.search(r"\[([\w/.]+)\]", file)
        assert path, f"no file: {row}"
        for name in re.findall(r"`([\w.]+)`", function):
            assert name in definitions(path[1]), f"{path[1]} has no {name}"
        require_tests(test)


def test_each_kind_of_fault_names_tests_that_are_there() -> None:
    text = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    tables, _, limits = text.partition("## Known limits")
    rows = [line for line in tables.splitlines() if re.match(r"\| \d", line)]
    assert sorted(int(row.split("|")[1]) for row in rows) == list(range(1, 29))
    for row in rows:
        assert row.count("|") == 6, f"not five cells: {row}"
        require_tests(row.split("|")[4])
    listed = [point for point in limits.splitlines() if point.startswith("- ")]
    assert listed and all(re.match(r"- \*\*\d[\d, ]*\.\*\* ", point) for point in listed)


@pytest.mark.parametrize(("text", "lengths"), [
    ("One two. Three `python -m x y z` five.\n\n    code is not read\n\n| a | table |\n", [2, 3]),
    ("- a point\n- another [link of words](x.md)\n\n```\ncode\n```\nThe end", [2, 4, 2]),
    ("Percent 99.2 stays. (So does this.) And that.", [3, 3, 2])])
def test_sentences_are_told_apart(text: str, lengths: list[int]) -> None:
    assert [len(words) for words in sentences(text)] == lengths
