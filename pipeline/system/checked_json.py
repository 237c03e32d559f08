"""JSON files of ours, validated when they are written and when they are read, so that no invalid value is used."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from matchnet.files import atomic_write
from matchnet.messages import shortened, shown

Content = TypeVar("Content")


def read_checked(adapter: TypeAdapter[Content], path: Path, error: type[ValueError], remedy: str) -> Content:
    """Content of the file; raises `error`, as `parse_checked` does, if it is not of the adapter's type."""
    if not path.is_file():
        raise error(f"{path}: there is no such file; {remedy}")
    return parse_checked(adapter, path.read_bytes(), str(path), error, remedy)


def parse_checked(adapter: TypeAdapter[Content], content: bytes | str, origin: str, error: type[ValueError],
                  remedy: str) -> Content:
    """Parse the content of the file at `origin`; raises `error`: file, field, value, rule and remedy."""
    try:
        return adapter.validate_json(content)
    except ValidationError as found:
        first = found.errors()[0]
        field = shortened(".".join(str(part) for part in first["loc"])) or "the whole file"
        value = "" if first["type"] in ("missing", "json_invalid") else f" (found {shown(first['input'])})"
        raise error(f"{origin}: {field}: {first['msg']}{value}; {remedy}") from found


def write_checked(adapter: TypeAdapter[Content], content: Mapping[str, Any], path: Path, error: type[ValueError],
                  remedy: str) -> None:
    """Write the file whole or not at all; raises as parse_checked does for a value that it may not hold."""
    text = json.dumps(content, indent=2) + "\n"
    parse_checked(adapter, text, str(path), error, remedy)
    with atomic_write(path) as file:
        file.write(text)
