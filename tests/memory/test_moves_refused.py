"""A move that finds no room has not written anything, not even over checkpoints that gave way."""

import numpy as np
import pytest

from motet.errors import CannotRewind, CapacityError, OptionError
from tests.memory.talk import Talk
from tests.state.files import KINDS
from tests.toy import assert_same, contents


@pytest.mark.parametrize(
    ("kind", "kv_bytes", "seed"),
    [("both", 200_000, 5), ("both", 150_000, 9), ("sliding", 100_000, 14), ("both", 200_000, 17)],
)
def test_what_gave_way_is_there_again(kind: str, kv_bytes: int, seed: int) -> None:
    """Seeds in which checkpoints were dropped for a move that then did not fit all the same."""
    random = np.random.default_rng(seed)
    random.choice([100_000, 150_000, 200_000, 300_000])
    talk = Talk(
        layers=KINDS[kind],
        context_length=4096,
        max_sequences=3,
        kv_bytes=kv_bytes,
        checkpoint_bytes=int(kv_bytes * 0.6),
        ubatch=64,
    )
    refused = 0
    for _ in range(40):
        seq, moves = int(random.integers(3)), random.random() >= 0.7
        before = contents(talk.context)
        try:
            if not moves:
                talk.say(int(random.choice([2, 30, 70])), seq)
            elif talk.memory.length(seq):
                ends = random.integers(0, int(talk.memory.ends[seq]) + 1, 2)
                start, end = sorted(map(int, ends))
                talk.shift(seq, start, end, int(random.choice([1, 64, 200])))
        except CapacityError:
            refused += moves
            assert_same(before, contents(talk.context))
        except (OptionError, CannotRewind):
            pass
    assert refused
