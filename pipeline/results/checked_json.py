"""Files of results: checked when they are written and when they are read, so that no report shows what is none."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.files import atomic_write

Content = TypeVar("Content")


def parse_checked(adapter: TypeAdapter[Content], text: str, path: Path, error: type[ValueError],
                  remedy: str) -> Content:
    """What the text of the file at `path` holds; raises `error`, which names file, field, value, rule and remedy."""
    try:
        return adapter.validate_json(text)
    except ValidationError as found:
        first = found.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        value = "" if first["type"] in ("missing", "json_invalid") else f" (found {first['input']!r})"
        raise error(f"{path}: {field}: {first['msg']}{value}; {remedy}") from found


def write_checked(adapter: TypeAdapter[Content], content: Mapping[str, Any], path: Path, error: type[ValueError],
                  remedy: str) -> None:
    """Write the file whole or not at all; raises as parse_checked does for a value that it may not hold."""
    text = json.dumps(content, indent=2) + "\n"
    parse_checked(adapter, text, path, error, remedy)
    with atomic_write(path) as file:
        file.write(text)
