"""A stranger's file of parameters: refused by name at once, in a short message."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from matchnet.parsing import LONGEST, ParamsError, parse
from pipeline.params.tables import Sections, read_table
from pipeline.params.yaml_file import LONGEST_PARAMS, YamlFile


def bomb(first: str, line: str) -> str:
    """Each of 20 values is nine times the one before it."""
    return first + "".join(line.format(n, ", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 20))


FILES = {
    "aliases": (bomb("a0: &a0 [x]\n", "a{0}: &a{0} [{1}]\n"), r":2: \*a0 stands for what is written elsewhere; write"),
    "merges": (bomb("a0: &a0 {x: 1}\n", "a{0}: &a{0}\n  <<: [{1}]\n"), r":3: \*a0 stands for what is written else"),
    "itself": ("a: &a [*a]", r":1: \*a stands for what is written elsewhere; write it out: parameters have neither"),
    "lists": ("a: " + "[" * 300_000, ":1: more than 32 sections or lists in one another; no parameter is so deep"),
    "sections": ("{a: " * 200_000, ":1: more than 32 sections or lists in one another; no parameter is so deep"),
    "length": ("a: " + "x" * (1 << 22), ": 4,194,307 characters, and a file of this kind has at most 4,194,304; is"),
    "digits": ("a: " + "9" * 5000, ": a value cannot be read: Exceeds the limit .*; if it is a text, put it into"),
    "date": ("a: 2024-13-45", ": a value cannot be read: month must be in 1..12; if it is a text, put it into quotes"),
    "tag": ("a: !!bool maybe", ": a value cannot be read: 'maybe'; if it is a text, put it into quotes"),
    "code": ("a: !!python/object/apply:os.system [touch x]", ":1: this is not YAML: could not determine a constructor"),
    "bytes": (b"a: \xff", ": byte 3 is not UTF-8; save the file as UTF-8"),
}


@pytest.mark.timeout(30)  # read without a bound, some of them never end
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_takes_no_bounded_time_to_read(tmp_path: Path, name: str) -> None:
    content, message = FILES[name]
    path = tmp_path / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ParamsError, match=rf"^{path}{message}") as raised:
        YamlFile.read(path)
    assert len(str(raised.value)) < LONGEST


def calls(work: Callable[[], object]) -> int:
    """How many functions `work` calls, Python's and C's: a measure of its work that no busy machine changes."""
    made = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return made


def refuse(folder: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml:2004: modles: there is no such parameter; did you mean 'mod"):
        read_table(Path(), folder)


def test_a_long_file_is_refused_by_little_more_work_than_reading_takes(tmp_path: Path) -> None:
    lines = "".join(f"  r{n}: {{a: [1, 2, 3], b: {{c: text}}}}\n" for n in range(2_000))
    text, path = f"table: t\nreport: {{title: t}}\nrecipes:\n{lines}modles: {{}}\n", tmp_path / "params.yaml"
    path.write_text(text)
    assert calls(lambda: refuse(tmp_path)) < 1.5 * calls(lambda: YamlFile.read(path))
    path.write_text(text + "#" * LONGEST_PARAMS)
    with pytest.raises(ParamsError, match=r"characters, and a file of this kind has at most 262,144; is it another"):
        read_table(Path(), tmp_path)


@pytest.mark.parametrize("line", [
    "models: {m: {recipe: NUMBER}}", "models: {m: {from: NUMBER}}", "models: {m: {recipe: [1, NUMBER]}}",
    "rows: {m: NUMBER}", "models: {? NUMBER : 1}", "cluster: {num_processes: -NUMBER}"])
@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "0o" + "7" * 5000, str(2**64)])
def test_a_number_that_no_parameter_has(tmp_path: Path, line: str, number: str) -> None:
    (tmp_path / "params.yaml").write_text(f"table: t\n{line.replace('NUMBER', number)}\nreport: {{title: t}}\n")
    field = line.partition(":")[0]
    with pytest.raises(ParamsError, match=rf"params\.yaml:2: {field}.*: found a number of [\d,]+ bits; a parameter"):
        read_table(Path(), tmp_path)


def test_the_largest_numbers_of_parameters_are_read(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"a: {2**64 - 1}\nb: {1 - 2**64}\nc: '{'9' * 5000}'\n")
    assert YamlFile.read(tmp_path / "params.yaml").values == {"a": 2**64 - 1, "b": 1 - 2**64, "c": "9" * 5000}


@pytest.mark.parametrize("values", [
    {"table": ["x" * 100_000]}, {"table": "x", "x" * 100_000: 1}, {"table": "t", "compute": {"device": "x" * 100_000}},
    {"table": "t", "compute": {"device": {str(n): n for n in range(100_000)}}},
    {"table": "t", "datasets": {"x" * 100_000: {"source": "nothing"}}}],
    ids=["list", "name", "value", "section", "path"])
def test_a_long_value_makes_no_long_message(values: dict) -> None:
    with pytest.raises(ParamsError) as raised:
        parse(Sections, {"report": {"title": "t"}, **values}, "")
    assert len(str(raised.value)) < LONGEST + 50 and " characters) ... " in str(raised.value)
