"""The sweep of faults: forty of them, drawn from a seed. tests/sweep.py draws more."""

import pytest
from sweep import sweep


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_forty_faults_end_with_the_right_result_or_with_one_message_and_nothing_lost() -> None:
    found = list(sweep(7, range(40)))
    failures = [str(one) for one in found if one.how == "broken"]
    assert not failures, "\n".join(failures)
    assert len(found) == 40
