"""A share of the broken model files; any number of them: python -m tests.hostile.gguf --count N."""

from tests.hostile.gguf import case
from tests.hostile.harness import run


def test_broken_files_are_refused_or_run():
    report = run(case, range(400))
    assert not report.failures, str(report)
    assert report.answered and report.refused
