"""Positions so far away that page tables for them would fill the machine."""

import pytest

from motet.batch import Batch
from motet.errors import CapacityError
from tests.memory.talk import Talk
from tests.state.files import KINDS
from tests.toy import RECURRENT


def test_positions_far_away_are_refused_before_anything_is_made():
    talk = Talk(layers=RECURRENT, max_sequences=16)
    talk.say(10)
    before = talk.memory._now
    batch = Batch()
    batch.add(1, (1 << 31) - 1, 1)
    with pytest.raises(CapacityError, match=r"position 2147483647 would take \d+ MiB .* 16 seq"):
        talk.context.decode(batch)
    with pytest.raises(CapacityError, match="page tables"):
        talk.memory.shift(0, 0, None, (1 << 31) - 20)
    with pytest.raises(CapacityError, match="2147483648 tokens"):
        talk.memory.shift(0, 0, None, 1 << 31)
    assert talk.memory._now is before


def test_a_million_positions_are_no_matter():
    talk = Talk(layers=RECURRENT, max_sequences=4)
    talk.say(10)
    talk.shift(0, 0, None, 1_000_000)
    talk.say(10)
    assert talk.memory.positions(0) == (1_000_000, 1_000_019)


@pytest.mark.parametrize("kv_bytes", [0, 1, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_that_not_even_one_token_fits_into(kind, kv_bytes):
    with pytest.raises(CapacityError, match=f"caches of one token take .* allows {kv_bytes} B"):
        Talk(layers=KINDS[kind], kv_bytes=kv_bytes)
