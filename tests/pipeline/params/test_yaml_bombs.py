"""A stranger's file of parameters: refused by name at once, in a short message."""

from pathlib import Path

import pytest

from matchnet.parsing import LONGEST, ParamsError, parse
from pipeline.params.tables import Sections
from pipeline.params.yaml_file import YamlFile


def bomb(first: str, line: str) -> str:
    """Each of 20 values is nine times the one before it."""
    return first + "".join(line.format(n, ", ".join([f"*a{n - 1}"] * 9)) for n in range(1, 20))


FILES = {
    "aliases": (bomb("a0: &a0 [x]\n", "a{0}: &a{0} [{1}]\n"), r":2: \*a0 stands for what is written elsewhere; write"),
    "merges": (bomb("a0: &a0 {x: 1}\n", "a{0}: &a{0}\n  <<: [{1}]\n"), r":3: \*a0 stands for what is written else"),
    "itself": ("a: &a [*a]", r":1: \*a stands for what is written elsewhere; write it out: parameters have neither"),
    "lists": ("a: " + "[" * 300_000, ":1: more than 32 sections or lists in one another; no parameter is so deep"),
    "sections": ("{a: " * 200_000, ":1: more than 32 sections or lists in one another; no parameter is so deep"),
    "length": ("a: " + "x" * (1 << 22), ": 4,194,307 characters, and a file of parameters has at most 4,194,304; is"),
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


@pytest.mark.parametrize("values", [
    {"table": ["x" * 100_000]}, {"table": "x", "x" * 100_000: 1}, {"table": "t", "compute": {"device": "x" * 100_000}},
    {"table": "t", "compute": {"device": {str(n): n for n in range(100_000)}}},
    {"table": "t", "datasets": {"x" * 100_000: {"source": "nothing"}}}],
    ids=["list", "name", "value", "section", "path"])
def test_a_long_value_makes_no_long_message(values: dict) -> None:
    with pytest.raises(ParamsError) as raised:
        parse(Sections, {"report": {"title": "t"}, **values}, "")
    assert len(str(raised.value)) < LONGEST + 50 and " characters) ... " in str(raised.value)
