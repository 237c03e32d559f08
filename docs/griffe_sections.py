"""For mkdocstrings: sections of our docstrings follow one another without an empty line, which Griffe asks for."""

import re
from typing import Any

from griffe import Extension, Object

SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Attributes|Returns|Yields|Raises):\n)")


class EmptyLineBeforeSections(Extension):
    def on_object(self, *, obj: Object, **others: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = SECTION.sub("\n\n", obj.docstring.value)
