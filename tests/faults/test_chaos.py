"""Two kills of each part of a run on three nodes, at moments from a seed; tests/chaos.py does more."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos import CHECKPOINT_EVERY, KINDS, disturbed, left_alone, problem_of, three_nodes
from ray_nodes import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Cluster, Path]]:
    with three_nodes() as cluster_and_folder:
        yield cluster_and_folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_as_if_nothing_had_been_killed(nodes, kind):
    problem = problem_of(kind, kills=2)
    alone = left_alone(*nodes, problem)
    kills = list(disturbed(*nodes, kind, problem, kills=2, seed=0, alone=alone))
    assert [kill.kind for kill in kills] == [kind, kind]
    assert all(kill.steps_twice <= CHECKPOINT_EVERY + 1 for kill in kills)
