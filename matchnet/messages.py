"""What messages are made of: values and the errors of libraries, short, on one line, and without a secret in them."""

import re
from pathlib import Path

LONGEST = 200  # characters of a value
LONGEST_ERROR = 600  # of what another library says
_MEMORY_ADDRESS = re.compile(r"(?: object)? at 0x[0-9a-fA-F]+")
_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s]*@")


def shown(value: object) -> str:
    """`repr`, cut to LONGEST characters; the number of all is said."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # a number of more than 4,300 digits; a value inside itself
        return f"a value of type {type(value).__name__} that is too large to show"


def shortened(text: str, longest: int = LONGEST) -> str:
    """The beginning and the end of a text that is longer."""
    if len(text) <= longest:
        return text
    return f"{text[:longest * 2 // 3]} ... ({len(text):,} characters) ... {text[-longest // 5:]}"


def said(error: BaseException) -> str:
    """What another library's error says: one line, without addresses of memory or credentials; its name if nothing."""
    text = " ".join(without_credentials(_MEMORY_ADDRESS.sub("", str(error))).split())
    printable = "".join(letter if letter.isprintable() else "�" for letter in text)  # a terminal obeys the others
    return shortened(printable or type(error).__name__, LONGEST_ERROR)


def without_credentials(text: str | Path) -> str:
    """A text in which addresses have no `user:password@`."""
    return _CREDENTIALS.sub(r"\g<scheme>", str(text))
