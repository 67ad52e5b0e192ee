"""A share of the kills; ``python -m tests.hostile.saves --count 60`` has 300 and more."""

from tests.hostile import saves
from tests.hostile.harness import run


def test_killed_savings():
    report = run(saves.case, range(4), seed=1, seconds=60)
    assert not report.failures, str(report)
