"""A share of the forged state files; ``python -m tests.hostile.states --count 10000`` has more."""

from tests.hostile import states
from tests.hostile.harness import run


def test_forged_state_files():
    report = run(states.case, range(150), seed=1)
    assert not report.failures, str(report)
    assert report.answered > 10 and report.refused > 50
