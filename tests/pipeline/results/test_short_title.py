"""Long titles in figures lose their middle."""

import pytest

from pipeline.results.short_title import short_title


@pytest.mark.parametrize(("title", "short"), [
    ("pixels", "pixels"), ("matching", "matching"), ("two\n lines", "two…ines"), ("spaces  and\tmore", "spa…more"),
    ("matching nets", "mat…nets"), ("matching nets, FCE", "mat… FCE")])
def test_a_long_title_keeps_its_beginning_and_its_end(title: str, short: str) -> None:
    assert short_title(title, 8) == short


@pytest.mark.parametrize("longest", range(1, 12))
def test_a_title_is_never_longer_than_asked(longest: int) -> None:
    for length in range(16):
        title = "abcdefghijklmnop"[:length]
        short = short_title(title, longest)
        assert short == title if length <= longest else len(short) == longest and "…" in short
