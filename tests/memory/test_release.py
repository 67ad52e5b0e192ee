"""Memory that a cleared context held goes back to the system when it is asked to."""

import mmap
from pathlib import Path

import pytest

from motet.kernels.reference import Reference
from motet.memory import Limits, Memory
from motet.spec import FullAttention, Recurrent, SlidingAttention
from tests.memory.talk import Talk
from tests.toy import ALL_KINDS

STATM = Path("/proc/self/statm")


def resident() -> int:
    return int(STATM.read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not STATM.exists(), reason="needs /proc/self/statm")
def test_it_is_the_systems_again() -> None:
    layers = (
        (FullAttention(4, 64, 64), Recurrent(((1 << 16,),))),
        (),
        (SlidingAttention(4, 64, 64, 512),),
    )
    memory = Memory(layers, Reference(), Limits(64, 1 << 16, 512, "f32", 0), 1 << 16)
    before = resident()
    for cache in memory.caches:
        for arrays in cache.arrays.values():
            for array in arrays.values():
                array[:64] = 1
    assert resident() - before > 24 << 20
    memory.clear()
    assert resident() - before > 24 << 20
    memory.clear(release=True)
    assert resident() - before < 4 << 20


def test_what_follows_is_the_same() -> None:
    talk = Talk(layers=ALL_KINDS, max_sequences=2)
    talk.say(100, 0, 1)
    talk.memory.clear(release=True)
    talk.plain.held.clear()
    talk.say(150)
