"""Titles of rows, cut to the length that fits into a figure."""


def short_title(title: str, longest: int) -> str:
    """The title on one line, of at most `longest` characters: "…" stands for the middle of a longer one.

    Titles of neighbours often begin alike, and differ at the end.
    """
    line = " ".join(title.split())
    if len(line) <= longest:
        return line
    left, right = (longest - 1) // 2, longest // 2
    return f"{line[:left]}…{line[len(line) - right:]}"
