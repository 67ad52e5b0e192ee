"""A small share of ``python -m tests.hostile.sessions``."""

import numpy as np
import pytest

from tests.hostile.sessions import contended, damaged, killed


@pytest.mark.parametrize("number", range(25))
def test_damaged_files(number, tmp_path):
    damaged(np.random.default_rng([7, number]), tmp_path)


@pytest.mark.parametrize("number", [2, 3, 4, 7])
def test_signals(number, tmp_path):
    killed(np.random.default_rng([7, number]), tmp_path)


def test_several_processes(tmp_path):
    contended(np.random.default_rng(7), tmp_path)
