"""A few seconds of the attack on tokenizers."""

from tests.hostile import harness
from tests.hostile.tokenizers import case


def test_a_share() -> None:
    report = harness.run(case, range(100), seconds=60)
    assert not report.failures, str(report)
    assert report.answered > 40
