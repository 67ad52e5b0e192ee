"""How what sequences hold leaves memory for a state file, and comes in from one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.errors import CannotRewind, CapacityError, StateFileError
from motet.memory.attention import AttentionMemory
from motet.memory.part import Draft
from motet.memory.recurrent import RecurrentMemory
from motet.memory.saved import UNKNOWN, Places, Saved


@dataclass(frozen=True)
class Filling:
    """Places for what was saved. Memory changes when ``commit`` is called, and only then."""

    places: tuple[Places, ...]
    """For each pool."""
    commit: Callable[[], None]


def export(
    attention: AttentionMemory,
    recurrent: RecurrentMemory | None,
    states: tuple[Any, ...],
    seqs: np.ndarray,
) -> tuple[Saved, tuple[np.ndarray, ...]]:
    """What ``seqs`` (int64) hold, and for each pool the slots of its rows."""
    said = attention.export(states[0], seqs)
    rows, slots = np.full(len(seqs), UNKNOWN, np.int32), said.slots
    if recurrent:
        rows, more = recurrent.export(states[1], seqs)
        slots = (*slots, more)
    return Saved(seqs.astype(np.int64), said.broken, said.tokens, said.held, rows), slots


def check_room(saved: Saved, context_length: int, free: int, most: int) -> None:
    """Raise CapacityError if it has more positions or tokens than a context has room for.

    ``free``: tokens that can still be held, of ``most``.
    """
    positions = saved.held[0].positions
    if positions.size and int(positions.max()) >= context_length:
        raise CapacityError(
            f"a saved sequence goes to position {positions.max()}, and the model's context is"
            f" {context_length} tokens"
        )
    needed = len(np.unique(saved.held[0].rows))
    if needed > free:
        raise CapacityError(
            f"{needed} tokens were saved, and {free} of {most} that this context can hold are free",
            hint="remove sequences, or give the context a larger max_tokens",
        )


def fill(drafts: Sequence[Draft], saved: Saved, seqs: np.ndarray) -> tuple[Places, ...]:
    """Give ``seqs`` (int64), which hold nothing, what was saved; where each pool's rows belong.

    Raises CapacityError when pages or slots run out.
    """
    try:
        return tuple(places for draft in drafts for places in draft.fill(seqs, saved))
    except CannotRewind as error:  # no memory that was saved is like that
        raise StateFileError(f"contradicts itself: {error.message}") from error
