"""The recurrent cache: float32, room for what is needed, nothing committed before it is used."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from motet.errors import CapacityError
from motet.kernels.reference import Reference
from motet.memory.cache import REWIND, Limits
from motet.memory.checkpoints import MOST_CHECKPOINTS
from motet.memory.recurrent import RecurrentCache, recurrent_caches
from motet.spec import FullAttention, Recurrent

LAYERS = (Recurrent(((3, 5), (2, 4))), FullAttention(1, 2, 2), Recurrent(((0, 5), (7,))))
STATE = 4 * (15 + 8 + 0 + 7)


def cache_of(layers, max_sequences: int, checkpoint_bytes: int) -> RecurrentCache:
    limits = Limits(max_sequences, 1024, 64, "f32", 1 << 80, checkpoint_bytes)
    specs = {(i, 0): spec for i, spec in enumerate(layers)}
    (cache,) = recurrent_caches(specs, Reference(), limits)
    return cache


def test_arrays_of_recurrent_layers_only():
    cache = cache_of(LAYERS, max_sequences=2, checkpoint_bytes=3 * STATE + 1)
    assert cache.slot_bytes == STATE
    assert cache.slots == (3 + 2 * REWIND) * 2 + 2 * 3 + 1
    assert {key: [array.shape[1:] for array in arrays] for key, arrays in cache.states.items()} == {
        (0, 0): [(3, 5), (2, 4)],
        (2, 0): [(0, 5), (7,)],
    }
    for array in (array for arrays in cache.states.values() for array in arrays):
        assert len(array) == cache.slots and array.dtype == np.float32
        assert array.flags.c_contiguous and array.flags.writeable


def test_no_more_checkpoints_than_are_kept_track_of():
    cache = cache_of(LAYERS, max_sequences=1, checkpoint_bytes=1 << 40)
    assert cache.slots == 3 + 2 * REWIND + 2 * MOST_CHECKPOINTS + 1


def test_a_large_pool_costs_nothing_until_it_is_used():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc/self/statm")
    before = resident()
    cache = cache_of([Recurrent(((1 << 20,),))], max_sequences=256, checkpoint_bytes=1 << 36)
    assert cache.slots * cache.slot_bytes > 1 << 35
    cache.states[0, 0][0][cache.slots - 1] = 1
    assert resident() - before < 1 << 26


def test_too_many_states_are_refused_in_words():
    with pytest.raises(CapacityError, match=r"no address space for .* smaller max_sequences"):
        cache_of([Recurrent(((1 << 40,),))], max_sequences=1 << 16, checkpoint_bytes=0)
