"""A share of the conversations; ``python -m tests.hostile.memory --count 2000`` has 100,000
operations."""

from tests.hostile import memory
from tests.hostile.harness import run


def test_interrupted_operations():
    report = run(memory.case, range(16), seed=2, seconds=120, memory=2 << 30)
    assert not report.failures, str(report)
    assert report.answered == 16
