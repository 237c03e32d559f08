"""A YAML file with the lines of its values, so that an error says where to look."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, ScalarNode

from matchnet.messages import said, shown
from matchnet.parsing import ParamsError

LONGEST = 1 << 22  # characters: a dvc.lock has some hundred thousand
LONGEST_PARAMS = 1 << 18  # characters of a params.yaml: the largest of ours has 8,000, and this many take a second
DEEPEST = 32  # sections in sections: of ours 6
MOST_BITS = 64  # of a whole number: seeds have up to 64


@dataclass(frozen=True)
class YamlFile:
    """`values` are plain: dicts, lists, texts, numbers."""

    path: Path
    text: str
    values: dict[str, Any]

    @staticmethod
    def read(path: Path, longest: int = LONGEST) -> "YamlFile":
        """Read a file of YAML 1.2 (so 1e-3 is a number).

        Raises:
            ParamsError: there is no such file, it is no text or no YAML, or it is no section.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ParamsError(f"{path}: there is no such file; run this from the folder that holds it") from None
        except UnicodeDecodeError as error:
            raise ParamsError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
        try:
            _check(path, text, longest)
            values = YAML(typ="safe").load(text)
        except ParamsError:
            raise
        except YAMLError as error:
            line = f":{error.problem_mark.line + 1}" if isinstance(error, MarkedYAMLError) and error.problem_mark \
                else ""
            problem = getattr(error, "problem", None) or " ".join(str(error).split())
            raise ParamsError(f"{path}{line}: this is not YAML: {problem}; correct it") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # a date, a number of thousands of digits
            raise ParamsError(f"{path}: a value cannot be read: {said(error)}; if it is a text, put it into quotes"
                              ) from error
        if not isinstance(values, dict):
            raise ParamsError(f"{path}: found {shown(values)}; it must be a section, with one `name: value` a line")
        file = YamlFile(path, text, values)
        with file.located():
            _check_numbers(values, "")
        return file

    @contextmanager
    def located(self, aliases: Mapping[str, str] | None = None) -> Iterator[None]:
        """An error about `models.x.training.steps` says the file and the line of that value.

        Args:
            aliases: `models.x` -> `recipes.y`, where a value stands that is not written below `models.x`.
        """
        try:
            yield
        except ParamsError as error:
            if error.is_located:
                raise
            path, colon, rest = str(error).partition(": ")
            line, found = self._line(path)
            for beginning, written in (aliases or {}).items():
                if found != path and path.startswith(f"{beginning}."):
                    other = written + path.removeprefix(beginning)
                    other_line, other_found = self._line(other)
                    if len(other_found) - len(written) > len(found) - len(beginning):
                        line, path = other_line, other
            raise ParamsError(f"{self.path}{f':{line}' if line else ''}: {path}{colon}{rest}",
                              is_located=True) from error

    def _line(self, path: str) -> tuple[int | None, str]:
        """The line of the value with this dotted path, or of the deepest section above it, and that one's path."""
        node = YAML(typ="safe").compose(self.text)
        line, found, rest = None, "", path.partition("[")[0]
        while isinstance(node, MappingNode) and rest:
            pairs = [(key, value) for key, value in node.value if isinstance(key, ScalarNode)
                     and (rest == key.value or rest.startswith(f"{key.value}."))]
            if not pairs:
                break
            key, node = max(pairs, key=lambda pair: len(pair[0].value))  # names may have dots themselves
            line, name = key.start_mark.line + 1, key.value
            found, rest = f"{found}.{name}" if found else name, rest.removeprefix(name).removeprefix(".")
        return line, found


def _check_numbers(value: object, path: str) -> None:
    """Refuse numbers that no parameter has: Python does not even write hexadecimal ones of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ParamsError(f"{path}: found a number of {value.bit_length():,} bits; a parameter has at most "
                          f"{MOST_BITS}: write a smaller one, or put it into quotes if it is a text")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_numbers(key, path)
            _check_numbers(item, f"{path}.{key}" if path else str(key))
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_numbers(item, f"{path}[{i}]")


def _check(path: Path, text: str, longest: int) -> None:
    """Refuse files whose reading may take unbounded time: long or deep ones, and aliases, which multiply."""
    if len(text) > longest:
        raise ParamsError(f"{path}: {len(text):,} characters, and a file of this kind has at most {longest:,}; is it "
                          "another file?")
    depth = 0
    for event in YAML(typ="safe").parse(text):
        if isinstance(event, AliasEvent):
            raise ParamsError(f"{path}:{event.start_mark.line + 1}: *{event.anchor} stands for what is written "
                              "elsewhere; write it out: parameters have neither aliases nor merges, which "
                              "`dvc exp run -S` would break")
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST:
            raise ParamsError(f"{path}:{event.start_mark.line + 1}: more than {DEEPEST} sections or lists in one "
                              "another; no parameter is so deep: write it flat")
