"""Words of a stranger's in report.md: shown, and never read as markup."""

import re

import pytest

from pipeline.results.report_markdown import code, text


@pytest.mark.parametrize(("words", "expected"), [
    ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"), ("a | b", r"a \| b"),
    ("![x](javascript:y)", r"!\[x\](javascript:y)"), ("# head\n## more", r"\# head \#\# more"),
    ("~~gone~~", r"\~\~gone\~\~"),
    ("- a list", r"\- a list"), ("1. a list", r"1\. a list"), ("+3.9 points", "+3.9 points"), ("&lt;", "&amp;lt;")])
def test_words_are_no_markup(words: str, expected: str) -> None:
    assert text(words) == expected


@pytest.mark.parametrize(("words", "expected"), [
    ("dvc repro x", "`dvc repro x`"), ("a` <b>", "``a` <b>``"), ("`", "`` ` ``"), ("``a", "``` ``a ```"),
    ("a|b\nc", "`a¦b c`"), ("", "–")])
def test_code_cannot_be_left(words: str, expected: str) -> None:
    assert code(words) == expected
    fence = re.match("`*", expected)[0]  # type: ignore[index]
    assert not fence or fence not in expected[len(fence):-len(fence)]
