"""Values and libraries' errors as text for messages: short, on one line, without secrets."""

import re
from pathlib import Path

LONGEST = 200  # characters of a value
LONGEST_ERROR = 600  # characters of another library's message
_MEMORY_ADDRESS = re.compile(r"(?: object)? at 0x[0-9a-fA-F]+")
_SCHEME = r"(?<![A-Za-z0-9+.-])(?P<start>[A-Za-z0-9+.-]+:"
_CREDENTIALS = re.compile(rf"{_SCHEME}//)[^/?#\s]*@")
# `user:secret@` whose secret has slashes, as half of AWS' secrets have, or whose `//` a path has made one slash. A
# number before a slash is a port. The bounds keep long texts fast.
_ODD_CREDENTIALS = re.compile(rf"{_SCHEME}//?)[^/?#\s:\[]{{0,500}}:(?!\d{{1,5}}[/?#])\S{{0,500}}@")


def shown(value: object, longest: int = LONGEST) -> str:
    """`repr` on one line, without memory addresses, cut to some characters; a cut text says its full length."""
    try:
        text = repr(value)
        return shortened(text if isinstance(value, str) else " ".join(_MEMORY_ADDRESS.sub("", text).split()), longest)
    except (ValueError, RecursionError):  # a number of more than 4,300 digits; a value inside itself
        return f"a value of type {type(value).__name__} that is too large to show"


def shortened(text: str, longest: int = LONGEST) -> str:
    """A text, or the beginning and the end of one that is longer."""
    if len(text) <= longest:
        return text
    return f"{text[:longest * 2 // 3]} ... ({len(text):,} characters) ... {text[-longest // 5:]}"


def said(error: BaseException) -> str:
    """Another library's error on one line, without memory addresses or credentials; its type if it has no text."""
    text = " ".join(without_credentials(_MEMORY_ADDRESS.sub("", str(error))).split())
    printable = "".join(letter if letter.isprintable() else "�" for letter in text)  # terminals obey control codes
    return shortened(printable or type(error).__name__, LONGEST_ERROR)


def without_credentials(text: str | Path) -> str:
    """A text in which addresses have no `user:password@`."""
    return _ODD_CREDENTIALS.sub(r"\g<start>", _CREDENTIALS.sub(r"\g<start>", str(text)))
