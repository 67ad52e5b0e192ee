"""What is being saved stays where it lies until it has been read."""

import gc
import io

import pytest

from motet.memory.export import Export
from motet.state import encoded, save
from tests.memory.talk import Talk
from tests.state.files import KINDS, saved
from tests.toy import assert_same, contents, poison

BUDGETS = {"recurrent": 2000, "hybrid": 2000}
"""Bytes of a few checkpoints; pages of sliding layers take more."""


def exported(talk: Talk, *seqs: int) -> Export:
    with talk.memory.exclusive():
        return talk.memory.export(seqs)


def written(talk: Talk, export: Export) -> bytes:
    file, context = io.BytesIO(), talk.context
    save(file, talk.memory, context.identity, export, encoded({}))  # type: ignore[arg-type]
    return file.getvalue()


def make_checkpoints(talk: Talk, seq: int, count: int) -> None:
    for _ in range(count):
        talk.say(30, seq)
        talk.memory.checkpoint(seq)


@pytest.mark.parametrize("kind", KINDS)
def test_others_go_on_while_it_is_read(kind):
    """They fork it, evict each other's checkpoints, and leave what they held to be filled anew."""
    talk = Talk(layers=KINDS[kind], max_sequences=4, checkpoint_bytes=BUDGETS.get(kind, 60_000))
    make_checkpoints(talk, 0, 2)
    talk.copy(0, 1)
    talk.say(30, 1)
    before = saved(talk, 0, 1)
    export = exported(talk, 0, 1)
    assert talk.memory.being_exported == {0, 1}
    asked = talk.memory.checkpoints(0)
    for _ in range(2):
        talk.copy(0, 2)
        make_checkpoints(talk, 2, 12)
        make_checkpoints(talk, 3, 12)
        talk.remove(2)
        talk.remove(3)
        assert talk.memory.checkpoints(0) == asked
    poison(talk.context)
    assert written(talk, export) == before
    assert talk.memory.being_exported == set()
    if asked:
        make_checkpoints(talk, 2, 12)
        assert talk.memory.checkpoints(0) != asked


def test_one_that_is_dropped_is_closed():
    talk = Talk(layers=KINDS["recurrent"], max_sequences=2)
    talk.say(5)
    export, other = exported(talk, 0), exported(talk, 0, 1)
    assert talk.memory.being_exported == {0, 1}
    with other:
        pass
    assert talk.memory.being_exported == {0}
    del export
    gc.collect()
    assert talk.memory.being_exported == set()


@pytest.mark.parametrize("kind", ["sliding", "recurrent"])
def test_a_checkpoint_that_finds_no_room_beside_those_being_saved(kind):
    talk = Talk(layers=KINDS[kind], max_sequences=2, checkpoint_bytes=BUDGETS.get(kind, 60_000))
    made = 0
    while len(talk.memory.checkpoints(0)) == made:
        make_checkpoints(talk, 0, 1)
        made += 1
    held = talk.memory.checkpoints(0)
    export = exported(talk, 0)
    talk.say(4, 1)
    talk.memory.checkpoint(1)
    assert talk.memory.checkpoints(0) == held and talk.memory.checkpoints(1) == []
    export.close()
    talk.memory.checkpoint(1)
    assert talk.memory.checkpoints(1) == [4]


def test_places_are_asked_for_without_a_change():
    talk = Talk(layers=KINDS["all"], max_sequences=2)
    talk.say(70)
    export = exported(talk, 0)
    before = contents(talk.context)
    places = talk.memory.fits(export.saved)
    assert [len(each.rows) for each in places] == [70, 70, 1]
    assert_same(before, contents(talk.context))
