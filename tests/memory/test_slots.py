"""The pool of states: float32, room for what is needed, nothing committed before it is used."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from motet.errors import CapacityError
from motet.memory.slots import MOST_CHECKPOINTS, SlotPool
from motet.spec import FullAttention, Recurrent

LAYERS = (Recurrent(((3, 5), (2, 4))), FullAttention(1, 2, 2), Recurrent(((0, 5), (7,))))
STATE = 4 * (15 + 8 + 0 + 7)


def test_arrays_of_recurrent_layers_only():
    pool = SlotPool(LAYERS, max_sequences=2, checkpoint_bytes=3 * STATE + 1)
    assert pool.slot_bytes == STATE
    assert pool.slots == 3 * 2 + 2 * 3 + 1
    assert {i: [array.shape[1:] for array in arrays] for i, arrays in pool.arrays.items()} == {
        0: [(3, 5), (2, 4)],
        2: [(0, 5), (7,)],
    }
    for array in (array for arrays in pool.arrays.values() for array in arrays):
        assert len(array) == pool.slots and array.dtype == np.float32
        assert array.flags.c_contiguous and array.flags.writeable


def test_no_more_checkpoints_than_are_kept_track_of():
    pool = SlotPool(LAYERS, max_sequences=1, checkpoint_bytes=1 << 40)
    assert pool.slots == 3 + 2 * MOST_CHECKPOINTS + 1


def test_a_large_pool_costs_nothing_until_it_is_used():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc/self/statm")
    before = resident()
    pool = SlotPool([Recurrent(((1 << 20,),))], max_sequences=256, checkpoint_bytes=1 << 36)
    assert pool.slots * pool.slot_bytes > 1 << 35
    pool.arrays[0][0][pool.slots - 1] = 1
    assert resident() - before < 1 << 26


def test_too_many_states_are_refused_in_words():
    with pytest.raises(CapacityError, match=r"no address space for .* smaller max_sequences"):
        SlotPool([Recurrent(((1 << 40,),))], max_sequences=1 << 16, checkpoint_bytes=0)
