"""Random numbers of one sequence, each from 0 to below 1."""

import secrets
from copy import deepcopy
from typing import Protocol

import numpy as np


class Random(Protocol):
    def random(self) -> float: ...


def random_numbers(generator: str, seed: int) -> Random:
    """Those that ``seed`` starts. ``generator``: see ``Sampling``."""
    return _Twister(seed) if generator == "mt19937" else np.random.Generator(np.random.PCG64(seed))


def any_seed(generator: str) -> int:
    """One from the operating system."""
    return secrets.randbits(32 if generator == "mt19937" else 63)


def copied(random: Random) -> Random:
    """The numbers that ``random`` would give next; it still gives them, too."""
    if isinstance(random, np.random.Generator):
        other = np.random.Generator(np.random.PCG64(0))
        other.bit_generator.state = random.bit_generator.state
        return other
    return deepcopy(random)


class _Twister:
    """What C++ draws: uniform_real_distribution<double> of mt19937 takes two words a number, the
    lower one first, as libstdc++ and libc++ both have it."""

    def __init__(self, seed: int) -> None:
        self._words = np.random.RandomState(seed)

    def random(self) -> float:
        low, high = self._words.randint(0, 1 << 32, size=2, dtype=np.uint32).tolist()
        return min((low + high * 2.0**32) / 2.0**64, 1 - 2.0**-53)  # the sum may be rounded up
