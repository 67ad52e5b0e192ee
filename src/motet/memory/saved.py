"""What saved sequences hold, in plain numbers: nothing says in which pages or slots it lay.

Tokens, and what layers keep of them, lie in pools without order of meaning, in which a token that
several sequences share has one row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from motet.errors import StateFileError

UNKNOWN = -1
"""In place of a row: there is none."""


@dataclass(frozen=True)
class Held:
    """Which rows of a pool of tokens each sequence holds."""

    lengths: np.ndarray
    """int64 ``[S]``: how many."""
    positions: np.ndarray
    """int32 ``[N]``, sequence after sequence, ascending in each."""
    rows: np.ndarray
    """int32 ``[N]``: the row of the pool that stands there."""

    def of(self, index: int) -> slice:
        """Where the entries of a sequence are."""
        end = int(self.lengths[: index + 1].sum())
        return slice(end - int(self.lengths[index]), end)

    def only(self, chosen: np.ndarray) -> "Held":
        """Of some of the sequences, by index."""
        entries = np.concatenate([np.arange(0), *(np.r_[self.of(i)] for i in chosen.tolist())])
        return Held(self.lengths[chosen], self.positions[entries], self.rows[entries])


@dataclass(frozen=True)
class Pool:
    """Arrays, of some layers, that hold a row for each token or for each state."""

    name: str
    layers: Mapping[int, Mapping[str, np.ndarray]]
    """Layer: its arrays by name, ``[pages, rows of a page, …]``."""


@dataclass(frozen=True)
class Export:
    """What sequences hold of the pools of tokens, and where it lies."""

    tokens: np.ndarray
    broken: np.ndarray
    held: tuple[Held, ...]
    slots: tuple[np.ndarray, ...]
    """For each pool the slots of its rows, int64."""


@dataclass(frozen=True)
class Places:
    """Where the rows of a pool go; a row may go to several places, or to none."""

    rows: np.ndarray
    """int64 ``[n]``, ascending."""
    slots: np.ndarray
    """int64 ``[n]``: page × rows of a page + row in it."""

    @classmethod
    def of(cls, rows: np.ndarray, slots: np.ndarray) -> "Places":
        """``rows`` in ``slots``, in any order; a place may come several times."""
        slots, first = np.unique(slots, return_index=True)
        order = np.argsort(rows[first], kind="stable")
        return cls(rows[first][order].astype(np.int64), slots[order])


@dataclass(frozen=True)
class Saved:
    """Sequences, as they are written to a file and read from it."""

    sequences: np.ndarray
    """int64 ``[S]``: their numbers in the context that saved them."""
    broken: np.ndarray
    """int64 ``[S]``: tokens from this position on were computed with another past than the one
    that the sequence holds now; the greatest int64 where there are none."""
    tokens: np.ndarray
    """int32 ``[n]``: the ids of the tokens in the first pool."""
    held: tuple[Held, ...]
    """For each pool of tokens: full attention first, then a pool for each window."""
    states: np.ndarray
    """int32 ``[S]``: the row of the pool of recurrent states; UNKNOWN where nothing is held, and
    of models without recurrent layers."""

    def only(self, chosen: np.ndarray) -> "Saved":
        """Some of the sequences, by index; pools are as they were."""
        return replace(
            self,
            sequences=self.sequences[chosen],
            broken=self.broken[chosen],
            held=tuple(held.only(chosen) for held in self.held),
            states=self.states[chosen],
        )

    def check(self, rows: tuple[int, ...], states: int, n_vocab: int) -> None:
        """Raise StateFileError unless it makes sense, whoever wrote it.

        ``rows`` and ``states``: sizes of the pools. ``states`` is 0 where no layer is recurrent.
        """
        if len(np.unique(self.sequences)) != len(self.sequences):
            _contradicts("a sequence comes twice")
        if np.any(self.sequences < 0) or np.any(self.broken < 0):
            _contradicts("a sequence number or position is negative")
        if self.tokens.size and not 0 <= self.tokens.min() <= self.tokens.max() < n_vocab:
            _contradicts(f"a token is not one of the vocabulary's {n_vocab}")
        for held, count in zip(self.held, rows, strict=True):
            _check_held(held, count)
        for held in self.held[1:]:
            if np.setdiff1d(_places(held), _places(self.held[0])).size:
                _contradicts("a layer holds a position that its sequence does not")
        if self.states.size and not UNKNOWN <= self.states.min() <= self.states.max() < states:
            _contradicts("a state is not in the pool of states")
        if states and np.any((self.states == UNKNOWN) != (self.held[0].lengths == 0)):
            _contradicts("a sequence has tokens without a state, or a state without tokens")


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
        _contradicts("a token is not in its pool")


def _places(held: Held) -> np.ndarray:
    """One number for each sequence and position held."""
    owner = np.repeat(np.arange(len(held.lengths), dtype=np.int64), held.lengths)
    return (owner << 32) | held.positions


def _contradicts(problem: str) -> NoReturn:
    raise StateFileError(
        f"contradicts itself: {problem}", hint="it is damaged, or something else wrote it"
    )
