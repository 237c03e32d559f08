"""What messages are made of: short, on one line, without addresses of memory and without passwords."""

import io

import numpy as np
import pytest
from PIL import Image

from matchnet.messages import LONGEST, LONGEST_ERROR, said, shown, without_credentials
from pipeline.system.storage import Location, StorageError, location_of


def test_a_long_value_is_cut_and_its_length_is_said() -> None:
    text = shown("a" * 100_000)
    assert len(text) < LONGEST + 40 and text.startswith("'aaa") and text.endswith("a'")
    assert "... (100,002 characters) ..." in text
    assert shown("short") == "'short'"


def test_a_value_is_one_line_without_its_address_of_memory() -> None:
    assert shown(Image.new("L", (3, 2))) == "<PIL.Image.Image image mode=L size=3x2>"
    assert shown([object(), drop]) == "[<object>, <function drop>]"
    assert shown("in\nink at 0x7f") == "'in\\nink at 0x7f'"
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert shown("a" * 100, 60) == f"'{'a' * 39} ... (102 characters) ... {'a' * 11}'"


def drop() -> None:
    """A function, whose `repr` has its address."""


def test_a_number_that_python_does_not_write() -> None:
    assert shown(10**5000) == "a value of type int that is too large to show"


def test_an_error_is_one_line_without_addresses_of_memory() -> None:
    error = ValueError(f"cannot identify image file {io.BytesIO()!r}\n  in\x1b[2J a loop")
    assert said(error) == "cannot identify image file <_io.BytesIO> in�[2J a loop"
    assert said(KeyError()) == "KeyError"
    assert len(said(ValueError("b" * 10_000))) < LONGEST_ERROR + 40


@pytest.mark.parametrize(("text", "expected"), [
    ("https://ann:pw@host:80/a@b", "https://host:80/a@b"),
    ("s3://key:se@cret@bucket/x?region=e", "s3://bucket/x?region=e"),
    ("no http://u:p@h/1 nor http://v@i/2", "no http://h/1 nor http://i/2"),
    ("/a/folder@home", "/a/folder@home"), ("http://host/", "http://host/"),
    ("s3://AKIA:sec/ret@bucket/x", "s3://bucket/x"), ("s3:/key:secret@bucket/x", "s3:/bucket/x"),
    ("/cwd/s3:/key:se/cr/et@bucket/x", "/cwd/s3:/bucket/x"), ("http://ann:p?w#d@host/", "http://host/"),
    ("http://host:80/a@b", "http://host:80/a@b"), ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
    ("http://host:80?mail=a@b", "http://host:80?mail=a@b"), ("rows: 5 of a@b", "rows: 5 of a@b")])
def test_addresses_have_no_password(text: str, expected: str) -> None:
    assert without_credentials(text) == expected


def test_a_place_as_text_has_no_password_and_its_address_has() -> None:
    location = Location("s3://key:secret@bucket/runs", None, "bucket/runs") / "step1"
    assert (str(location), location.address) == ("s3://bucket/runs/step1", "s3://key:secret@bucket/runs/step1")
    with pytest.raises(StorageError) as raised:
        location_of("nothing://key:secret@bucket/x")
    assert str(raised.value).startswith("nothing://bucket/x: ") and "secret" not in str(raised.value)
