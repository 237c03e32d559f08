"""Two kills of each kind of stage while it writes; tests/chaos.py does more."""

import pytest
from chaos_files import FILE_KINDS, Killer
from sweep import Sweep


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_output_is_broken_and_the_same_command_goes_on() -> None:
    with Sweep() as base:
        killer = Killer(base)
        for kind in FILE_KINDS:
            assert [kill.kind for kill in killer.kills(kind, 2, seed=0)] == [kind, kind]
