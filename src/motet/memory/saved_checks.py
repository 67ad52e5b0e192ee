"""Whether what a state file says makes sense, whoever wrote it."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from motet.errors import StateFileError
from motet.memory.saved import UNKNOWN, Held, Saved


def check_saved(saved: Saved, counts: Sequence[int], n_vocab: int) -> None:
    """Raise StateFileError where numbers contradict each other or lead nowhere.

    ``counts``: rows of each pool; last, if a layer is recurrent, of that of states.
    """
    sequences = len(saved.sequences)
    if len(np.unique(saved.sequences)) != sequences:
        _contradicts("a sequence comes twice")
    if np.any(saved.sequences < 0) or np.any(saved.broken < 0):
        _contradicts("a sequence number or position is negative")
    if np.any(saved.tokens < 0) or np.any(saved.tokens >= n_vocab):
        _contradicts(f"a token is not one of the vocabulary's {n_vocab}")
    for held, count in zip(saved.held, counts, strict=False):
        _check_held(held, count)
    _check_held(saved.marks, saved.checkpoints)
    present = _places(saved.held[0], sequences)
    for held in saved.held[1:]:
        if np.setdiff1d(_places(held, sequences), present).size:
            _contradicts("a layer holds a position that its sequence does not")
    states, own = counts[len(saved.held) :], saved.states[:sequences]
    if np.any(saved.states < UNKNOWN) or np.any(saved.states >= sum(states)):
        _contradicts("a state is not in the pool of states")
    if states and np.any((own == UNKNOWN) != (saved.held[0].lengths == 0)):
        _contradicts("a sequence has tokens without a state, or a state without tokens")
    if states and np.any(saved.states[sequences:] == UNKNOWN):
        _contradicts("a checkpoint has no state")
    _check_marks(saved)


def _check_held(held: Held, count: int) -> None:
    lengths, positions, rows = held.lengths, held.positions, held.rows
    if np.any(lengths < 0) or np.any(lengths > len(positions)):
        _contradicts("a sequence has an impossible length")
    if int(lengths.sum()) != len(positions) or len(rows) != len(positions):
        _contradicts("the lengths of the sequences are not those of their tables")
    if not positions.size:
        return
    owner = np.repeat(np.arange(len(lengths)), lengths)
    if positions.min() < 0 or np.any((np.diff(positions) <= 0) & (np.diff(owner) == 0)):
        _contradicts("the positions of a sequence do not ascend")
    if not 0 <= rows.min() <= rows.max() < count:
        _contradicts("a table refers to a row that there is not")


def _check_marks(saved: Saved) -> None:
    """What a sequence goes back to has to be tokens that it holds."""
    sequences = len(saved.sequences)
    for i in range(sequences if saved.marks.rows.size else 0):
        present = saved.held[0].positions[saved.held[0].of(i)]
        its = saved.marks.of(i)
        for at, row in zip(saved.marks.positions[its], saved.marks.rows[its], strict=True):
            before = present[present < at]
            if not before.size or at > present[-1] + 1:
                _contradicts("a checkpoint is where its sequence has no tokens")
            for held in saved.held[1:]:
                kept = held.positions[held.of(sequences + int(row))]
                if not np.isin(kept, before).all():
                    _contradicts("a checkpoint holds a position that its sequence does not")


def _places(held: Held, sequences: int) -> np.ndarray:
    """One number for each sequence and position held."""
    lengths = held.lengths[:sequences]
    owner = np.repeat(np.arange(sequences, dtype=np.int64), lengths)
    return (owner << 32) | held.positions[: len(owner)]


def _contradicts(problem: str) -> NoReturn:
    raise StateFileError(
        f"contradicts itself: {problem}", hint="it is damaged, or something else wrote it"
    )
