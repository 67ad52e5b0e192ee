"""How what sequences hold leaves memory for a state file, and comes in from one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from motet.errors import CannotRewind, CapacityError, StateFileError
from motet.memory.attention import AttentionMemory
from motet.memory.changes import Changes, Contents
from motet.memory.recurrent import RecurrentMemory
from motet.memory.saved import UNKNOWN, Held, Places, Saved


@dataclass(frozen=True)
class Filling:
    """Places for what was saved. Memory changes when ``commit`` is called, and only then."""

    places: tuple[Places, ...]
    """For each pool."""
    commit: Callable[[], None]


def export(
    attention: AttentionMemory,
    recurrent: RecurrentMemory | None,
    held: Contents,
    seqs: Sequence[int],
) -> tuple[Saved, tuple[np.ndarray, ...]]:
    """What ``seqs`` hold, and for each pool the slots of its rows.

    Checkpoints that were asked for come along; automatic ones would make files many times as
    large, and come again as the sequences go on.
    """
    uses, marks = held.checkpoints.uses, [held.checkpoints.marks[seq] for seq in seqs]
    used = {c: seq for seq, its in zip(seqs, marks, strict=True) for _, c in its}
    asked = [c for c, (asked_for, _) in uses.items() if asked_for and c in used]
    number = {checkpoint: row for row, checkpoint in enumerate(asked)}
    marks = [[(at, number[c]) for at, c in its if c in number] for its in marks]
    said = attention.export(held.parts[0], seqs, [(used[c], c.holds[0]) for c in asked])
    states, slots = np.full(len(seqs) + len(asked), UNKNOWN, np.int32), said.slots
    if recurrent:
        rows = recurrent.export(held.parts[1], seqs, [c.holds[1] for c in asked])
        states, slots = rows.states, (*slots, rows.slots)
    saved = Saved(
        np.array(seqs, np.int64),
        said.broken,
        said.tokens,
        said.held,
        states,
        Held(
            np.array([len(its) for its in marks], np.int64),
            np.array([at for its in marks for at, _ in its], np.int32),
            np.array([row for its in marks for _, row in its], np.int32),
        ),
    )
    return saved, slots


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


def fill(changes: Changes, saved: Saved, seqs: np.ndarray) -> tuple[Places, ...]:
    """Give ``seqs`` (int64), which hold nothing, what was saved; where each pool's rows belong.

    Raises CapacityError when pages or slots run out.
    """
    try:
        return changes.fill(saved, seqs)
    except CannotRewind as error:  # no memory that was saved is like that
        raise StateFileError(f"contradicts itself: {error.message}") from error
