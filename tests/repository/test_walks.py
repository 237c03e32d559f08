"""From parameters to a batch, from shards to tensors, from a row to its figures: the ways do not grow unseen."""

import re

import pytest
import walks

MOST_STOPS = {"train": 81, "load": 30, "evaluate": 58}  # a few more than there are; see tests/walks.py


def test_the_walks_have_no_more_stops_than_they_had(capsys: pytest.CaptureFixture[str]) -> None:
    """A new stop is fine where it saves the reader more than it costs: raise the number then."""
    walks.main()
    found = {name: int(stops) for name, stops in re.findall(r"^\| (\w+) \| (\d+) ", capsys.readouterr().out, re.M)}
    assert found.keys() == MOST_STOPS.keys()
    assert all(0 < found[name] <= most for name, most in MOST_STOPS.items()), found
