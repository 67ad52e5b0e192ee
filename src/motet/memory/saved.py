"""What saved sequences hold, in plain numbers: nothing says in which pages or slots it lay.

Tokens, and what layers keep of them, lie in pools without order of meaning, in which a token that
several sequences share has one row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

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
class Rows:
    """A row of the pool of states for each sequence and checkpoint, and the slots of the rows."""

    states: np.ndarray
    slots: np.ndarray


@dataclass(frozen=True)
class Filled:
    """Where one part of memory wants what was saved."""

    places: list[Places]
    """For each of its pools."""
    holds: list[Any]
    """What each saved checkpoint refers to in this part."""


@dataclass(frozen=True)
class Saved:
    """Sequences, and checkpoints of theirs, as they are written to a file and read from it."""

    sequences: np.ndarray
    """int64 ``[S]``: their numbers in the context that saved them."""
    broken: np.ndarray
    """int64 ``[S]``: tokens from this position on were computed with another past than the one
    that the sequence holds now; the greatest int64 where there are none."""
    tokens: np.ndarray
    """int32 ``[n]``: the ids of the tokens in the first pool."""
    held: tuple[Held, ...]
    """For each pool of tokens: full attention first, of the S sequences; then one for each window,
    of the sequences and after them the C checkpoints, least recently used first."""
    states: np.ndarray
    """int32 ``[S + C]``: the row of the pool of recurrent states; UNKNOWN where nothing is held,
    and of models without recurrent layers."""
    marks: Held
    """Where each sequence can go back to, and, as rows, by which checkpoint."""

    @property
    def checkpoints(self) -> int:
        """How many there are, C."""
        return len(self.states) - len(self.sequences)

    def from_elsewhere(self) -> "Saved":
        """The same, told apart from what is computed here, where numbers are rounded otherwise.

        So sequences share no token with others whose tokens are equal but not the same.
        """
        return replace(self, broken=np.zeros_like(self.broken))

    def only(self, chosen: np.ndarray) -> "Saved":
        """Some of the sequences, by index, with what they need; pools are as they were."""
        marks = self.marks.only(chosen)
        some = replace(
            self,
            sequences=self.sequences[chosen],
            broken=self.broken[chosen],
            held=(self.held[0].only(chosen), *self.held[1:]),
            marks=marks,
        )
        return some._with(chosen, np.unique(marks.rows), len(self.sequences))

    def with_checkpoints(self, most: int) -> "Saved":
        """The same with at most so many checkpoints, the most recently used."""
        before = len(self.sequences)
        if most >= self.checkpoints:
            return self
        kept = np.arange(self.checkpoints - most, self.checkpoints)
        return self._with(np.arange(before), kept, before)

    def _with(self, chosen: np.ndarray, kept: np.ndarray, before: int) -> "Saved":
        """``chosen`` of the ``before`` sequences, and ``kept`` checkpoints, by index."""
        owners = np.concatenate([chosen, before + kept])
        of_kept = np.isin(self.marks.rows, kept)
        marker = np.repeat(np.arange(len(chosen)), self.marks.lengths)[of_kept]
        marks = Held(
            np.bincount(marker, minlength=len(chosen)),
            self.marks.positions[of_kept],
            np.searchsorted(kept, self.marks.rows[of_kept]).astype(np.int32),
        )
        held = (self.held[0], *(held.only(owners) for held in self.held[1:]))
        return replace(self, held=held, states=self.states[owners], marks=marks)
