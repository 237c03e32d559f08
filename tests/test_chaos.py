"""Two kills of each part of a run on three nodes, at moments from a seed; `python tests/chaos.py` does more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos import CHECKPOINT_EVERY, KINDS, disturbed, left_alone, three_nodes
from ray_nodes import Cluster

STEPS = 60

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Cluster, Path]]:
    with three_nodes() as cluster_and_folder:
        yield cluster_and_folder


@pytest.fixture(scope="module")
def alone(nodes: tuple[Cluster, Path]) -> tuple[str, dict[int, set[float]]]:
    return left_alone(*nodes, STEPS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_as_if_nothing_had_been_killed(nodes, alone, kind):
    kills = list(disturbed(*nodes, kind, STEPS, kills=2, seed=0, alone=alone))
    assert [kill.kind for kill in kills] == [kind, kind]
    assert all(kill.steps_twice <= CHECKPOINT_EVERY + 1 for kill in kills)
