"""The reference of params.yaml: complete, and what the code says today."""

from dataclasses import dataclass

from places import ROOT

from pipeline.params.reference import PAGE, classes, meanings, own_fields, reference


def test_the_page_is_what_the_dataclasses_say() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == reference(), \
        f"{PAGE} is out of date; run python -m pipeline.params.reference"


def test_every_field_has_a_meaning() -> None:
    missing = [f"{found.__name__}.{field.name}" for found in classes() for field in own_fields(found)
               if field.name not in meanings(found)]
    assert not missing, f"say in `Args:` of the docstring what they mean: {', '.join(missing)}"


def test_nothing_is_explained_that_is_no_field() -> None:
    assert all(set(meanings(found)) <= set(found.__dataclass_fields__) for found in classes())


def test_meanings_come_from_bases_too_and_may_be_shared() -> None:
    @dataclass
    class Base:
        """A base.

        Args:
            size: pixels of a side,
                on two lines.
        """

        size: int

    @dataclass
    class Derived(Base):
        """More.

        Args:
            first, second: of two.
        """

        first: int
        second: int

    assert meanings(Derived) == {"size": "pixels of a side, on two lines.", "first": "of two.", "second": "of two."}
