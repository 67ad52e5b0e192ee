"""The harness sees every kind of failure, and goes on after each."""

import os
import time
import warnings

import numpy as np

from motet.errors import MotetError
from tests.hostile.harness import run


def misbehave(random: np.random.Generator) -> None:
    """In the way that is drawn."""
    kind = int(random.integers(7))
    if kind == 0:
        return
    if kind == 1:
        raise MotetError("refused")
    if kind == 2:
        raise ValueError("not for people")
    if kind == 3:
        os.abort()
    if kind == 4:
        time.sleep(60)
    if kind == 5:
        bytearray(1 << 40)
    if kind == 6:
        warnings.warn("a warning is a failure too", RuntimeWarning, stacklevel=1)


def test_every_kind_of_failure_is_seen():
    names = ["answered", "refused", "exception", "death", "hang", "memory", "exception"]
    seed, count = 38, 9
    kinds = [names[int(np.random.default_rng([seed, n]).integers(7))] for n in range(count)]
    assert set(kinds) == set(names)
    report = run(misbehave, range(count), seed, seconds=1)
    assert report.answered == kinds.count("answered")
    assert report.refused == kinds.count("refused")
    expected = [(n, kind) for n, kind in enumerate(kinds) if kind not in ("answered", "refused")]
    assert [(failure.number, failure.kind) for failure in report.failures] == expected
