"""A few crowds; ``python -m tests.hostile.threads --count 100`` has more."""

from tests.hostile import threads
from tests.hostile.harness import run


def test_crowds():
    report = run(threads.case, range(3), seed=1, seconds=300, memory=6 << 30)
    assert not report.failures, str(report)
