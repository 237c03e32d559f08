"""Plain values (from YAML) into frozen dataclasses, strictly: no unknown key, no wrong type, no silent conversion."""

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

from matchnet.messages import shortened, shown

LONGEST = 1500  # characters of an error: a stranger's file may have names and values of any length
PLAIN_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class ParamsError(ValueError):
    """A parameter that cannot be used; the text says where, what, the rule and what to do.

    is_located: whether the text begins with file and line.
    """

    def __init__(self, text: str, is_located: bool = False) -> None:
        super().__init__(shortened(text, LONGEST))
        self.is_located = is_located


def parse(wanted: Any, value: Any, path: str) -> Any:
    """Turn `value` into the type `wanted`: a dataclass, Mapping, tuple, Literal, union or plain type.

    Args:
        path: where the value stands, such as `models.glyphs.training.steps`; errors begin with it.
    Raises:
        ParamsError: unknown or missing key, wrong type, or whatever rule the dataclass itself has.
    """
    if wanted is Any:  # parts, which are parsed when their departures are applied
        return value
    origin = get_origin(wanted)
    if is_dataclass(wanted):
        return _parse_dataclass(wanted, value, path)
    if origin in (Union, types.UnionType):
        return _parse_union(get_args(wanted), value, path)
    if origin is Literal:
        choices = get_args(wanted)
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ParamsError(f"{path}: found {shown(value)}; write one of {', '.join(map(str, choices))}")
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _require_section(value, path)
        return {key: parse(get_args(wanted)[1], item, _join(path, key)) for key, item in value.items()}
    if origin is tuple:
        return _parse_tuple(get_args(wanted), value, path)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ParamsError(f"{path}: found {shown(value)}; it must be {_name_of(wanted)}")
    return value


def nearest(name: object, known: typing.Iterable[str]) -> str:
    """`did you mean X?`, or the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known) or 'none'}"


def _parse_dataclass(wanted: Any, value: Any, path: str) -> Any:
    _require_section(value, path)
    known = {field.name: field for field in fields(wanted) if field.init}
    for key in value:
        if key not in known:
            raise ParamsError(f"{_join(path, key)}: there is no such parameter; {nearest(key, known)}")
    missing = [name for name, field in known.items()
               if name not in value and field.default is MISSING and field.default_factory is MISSING]
    if missing:
        raise ParamsError(f"{_join(path, missing[0])}: this parameter is missing; "
                          f"add it ({', '.join(missing)} have no default)")
    hints = typing.get_type_hints(wanted)
    arguments = {key: parse(hints[key], item, _join(path, key)) for key, item in value.items()}
    try:
        return wanted(**arguments)
    except ParamsError:
        raise
    except ValueError as error:
        raise ParamsError(f"{path}: {error}") from error


def _parse_union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    """Parse one of several types. A `name` or `kind` tells which of several dataclasses; without such a field, the
    keys do.

    Then the dataclass that knows most of the keys is taken, and the first of equals. So a misspelt key is still
    reported as such.
    """
    if value is None and types.NoneType in options:
        return None
    options = tuple(option for option in options if option is not types.NoneType)
    if len(options) == 1:
        return parse(options[0], value, path)
    if not all(is_dataclass(option) for option in options):
        for option in options:
            try:
                return parse(option, value, path)
            except ParamsError:
                continue
        raise ParamsError(f"{path}: found {shown(value)}; it must be {' or '.join(map(_name_of, options))}")
    _require_section(value, path)
    hints = typing.get_type_hints(options[0])
    tag = next((name for name, hint in hints.items() if get_origin(hint) is Literal and len(get_args(hint)) == 1), None)
    if tag is None:
        known = [sum(field.name in value for field in fields(option)) for option in options]
        return _parse_dataclass(options[known.index(max(known))], value, path)
    choices = {get_args(typing.get_type_hints(option)[tag])[0]: option for option in options}
    if tag not in value:
        raise ParamsError(f"{_join(path, tag)}: this parameter is missing; write one of {', '.join(choices)}")
    if not isinstance(value[tag], str) or value[tag] not in choices:
        raise ParamsError(f"{_join(path, tag)}: found {shown(value[tag])}; {nearest(value[tag], choices)}")
    return _parse_dataclass(choices[value[tag]], value, path)


def _parse_tuple(arguments: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ParamsError(f"{path}: found {shown(value)}; it must be a list, such as [a, b]")
    variable = len(arguments) == 2 and arguments[1] is Ellipsis
    if not variable and len(value) != len(arguments):
        raise ParamsError(f"{path}: found {len(value)} values; it must have {len(arguments)}")
    item_types = [arguments[0]] * len(value) if variable else arguments
    return tuple(parse(item_type, item, f"{path}[{i}]")
                 for i, (item_type, item) in enumerate(zip(item_types, value, strict=True)))


def _require_section(value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        raise ParamsError(f"{path}: found {shown(value)}; it must be a section, with one `name: value` a line")
    for key in value:
        if not isinstance(key, str):
            raise ParamsError(f"{path}: the name {shown(key)} must be a text; put it in quotes")


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _name_of(wanted: Any) -> str:
    if get_origin(wanted) is Literal:
        return " or ".join(map(str, get_args(wanted)))
    if get_origin(wanted) is tuple:
        return "a list, such as [a, b]"
    return PLAIN_NAMES.get(wanted, getattr(wanted, "__name__", str(wanted)))
