"""Memory that nothing held needs goes back to the system: when it is asked to, and in need."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from motet.kernels import PAGE
from motet.kernels.interface import PagedKV
from motet.kernels.interface_recurrent import RecurrentState
from motet.kernels.reference import Reference
from motet.memory import Limits, Memory
from motet.spec import FullAttention, Recurrent
from motet.split import Ubatch
from tests.memory.talk import Talk
from tests.toy import ALL_KINDS

STATM = Path("/proc/self/statm")
LAYERS = ((FullAttention(4, 64, 64),), (Recurrent(((1 << 18,),)),))
"""2 KiB a token, 1 MiB a sequence."""

pytestmark = pytest.mark.skipif(not STATM.exists(), reason="needs /proc/self/statm")


def resident() -> int:
    return int(STATM.read_text().split()[1]) * mmap.PAGESIZE


def make(kv_bytes: int) -> Memory:
    return Memory(LAYERS, Reference(), Limits(40, 1 << 17, 512, "f32", kv_bytes, 0), 1 << 17)


def write(memory: Memory, seq: int, count: int) -> None:
    """Let ``seq`` go on by so many tokens, and write all that a model would."""
    end = int(memory.ends[seq])
    at, none = np.arange(end, end + count, dtype=np.int32), np.zeros(count, np.int64)
    ids, every = np.ones(count, np.int32), np.arange(count)
    plan = memory.plan([Ubatch(ids, at, none, ((seq,),), every, none > 0)])
    plan.begin()
    attention, state = (plan.micro_batches[0].cache(layer) for layer in (0, 1))
    assert isinstance(attention, PagedKV) and isinstance(state, RecurrentState)
    for array in attention.pages.arrays.values():
        slots = attention.tables.slots
        array[slots // PAGE, slots % PAGE] = 1
    state.arrays[0][state.runs.write] = 1
    plan.commit()


def test_it_is_the_systems_again_when_all_is_forgotten() -> None:
    memory, before = make(1 << 30), resident()
    for seq in range(16):
        write(memory, seq, 512)
    assert resident() - before > 28 << 20
    for seq in range(1, 16):
        memory.remove(seq)
    assert resident() - before > 28 << 20
    memory.trim()
    assert resident() - before < 6 << 20
    write(memory, 1, 512)
    memory.clear()
    assert resident() - before < 6 << 20


def test_what_one_cache_gave_up_is_given_back_before_another_grows() -> None:
    """Pages once written stay in memory when they are free, so they count until given back."""
    memory, before = make(40 << 20), resident()
    for seq in range(34):
        write(memory, seq, 1)
    memory.keep(0)
    for _ in range(30):
        write(memory, 0, 512)
    assert 16 << 20 < resident() - before < 46 << 20


def test_what_follows_is_the_same() -> None:
    talk = Talk(layers=ALL_KINDS, max_sequences=2)
    talk.say(100, 0, 1)
    talk.memory.clear()
    talk.plain.held.clear()
    talk.say(150)
    talk.say(80, 1)
    talk.remove(0)
    talk.memory.trim()
    talk.say(90, 1)
    talk.say(100)
