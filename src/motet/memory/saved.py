"""What saved sequences hold, in plain numbers: nothing says in which pages or slots it lay.

Tokens, and what layers keep of them, are rows of pools without order of meaning; what several
sequences share has one row. Owners of rows are the S saved sequences and, after them, the C
checkpoints, least recently used first. Whoever wrote the numbers, they are checked before use, in
time that is linear in how many there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn, Protocol

import numpy as np

from motet.arrays import Array, Int32, Int64
from motet.errors import StateFileError
from motet.memory.slot_mapping import ragged

NO_ROW = -1
"""In place of a row: nothing is held."""

Tables = Mapping[str, Array]
"""One-dimensional arrays by name, as they stand in a state file."""


@dataclass(frozen=True)
class TokenRows:
    """Which rows of a pool of tokens each owner holds."""

    lengths: Int64
    """``[owners]``: how many."""
    positions: Int32
    """``[N]``, owner after owner, ascending in each."""
    rows: Int32
    """``[N]``: the row of the pool that stands there."""

    @classmethod
    def read(cls, tables: Tables, name: str) -> "TokenRows":
        """From the tables of this name. Raises StateFileError where one is missing."""
        return cls(
            read_table(tables, f"{name}.lengths", np.int64),
            read_table(tables, f"{name}.positions", np.int32),
            read_table(tables, f"{name}.rows", np.int32),
        )

    def tables(self, name: str) -> dict[str, Array]:
        """The reverse of ``read``."""
        return {
            f"{name}.lengths": self.lengths,
            f"{name}.positions": self.positions,
            f"{name}.rows": self.rows,
        }

    @cached_property
    def ends(self) -> Int64:
        """``[owners]``: where the entries of each end."""
        return self.lengths.cumsum()

    @property
    def owners(self) -> Int64:
        """``[N]``: the owner of each entry."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def of(self, owner: int) -> slice:
        """Where the entries of an owner are."""
        end = int(self.ends[owner])
        return slice(end - int(self.lengths[owner]), end)

    def only(self, owners: Int64) -> "TokenRows":
        """Of some of the owners, by index."""
        lengths = self.lengths[owners]
        owner, index = ragged(lengths)
        entries = (self.ends[owners] - lengths)[owner] + index
        return TokenRows(lengths, self.positions[entries], self.rows[entries])

    def places(self, owners: int) -> Int64:
        """One number for each position that the first ``owners`` owners hold."""
        owner = np.repeat(np.arange(owners, dtype=np.int64), self.lengths[:owners])
        return (owner << 32) | self.positions[: len(owner)]

    def check(self, owners: int, count: int) -> None:
        """Raise StateFileError unless it is of so many owners, and of all of ``count`` rows."""
        lengths, positions, rows = self.lengths, self.positions, self.rows
        if len(lengths) != owners:
            contradicts("its tables are not of the same sequences")
        if np.any(lengths < 0) or np.any(lengths > len(positions)):
            contradicts("a sequence has an impossible length")
        if int(lengths.sum()) != len(positions) or len(rows) != len(positions):
            contradicts("the lengths of the sequences are not those of their tables")
        ascend = (np.diff(positions.astype(np.int64)) > 0) | (np.diff(self.owners) > 0)
        if positions.min(initial=0) < 0 or not ascend.all():
            contradicts("the positions of a sequence do not ascend")
        if rows.min(initial=0) < 0 or rows.max(initial=-1) >= count:
            contradicts("a table refers to a row that there is not")
        check_all_used(rows, count)


@dataclass(frozen=True)
class SavedSequences:
    """The tokens of the saved sequences."""

    numbers: Int64
    """``[S]``: their numbers in the context that saved them."""
    broken: Int64
    """``[S]``: tokens from this position on were computed with another past than the one that the
    sequence holds now; the greatest int64 where there are none."""
    tokens: Int32
    """``[n]``: the ids of the tokens, a row each."""
    held: TokenRows

    def __len__(self) -> int:
        return len(self.numbers)

    def only(self, chosen: Int64) -> "SavedSequences":
        """Some of them, by index; rows are as they were."""
        return replace(
            self,
            numbers=self.numbers[chosen],
            broken=self.broken[chosen],
            held=self.held.only(chosen),
        )

    def check(self, n_vocab: int) -> None:
        """Raise StateFileError where numbers contradict each other or lead nowhere."""
        if len(np.unique(self.numbers)) != len(self):
            contradicts("a sequence comes twice")
        if len(self.broken) != len(self):
            contradicts("its tables are not of the same sequences")
        if np.any(self.numbers < 0) or np.any(self.broken < 0):
            contradicts("a sequence number or position is negative")
        if np.any(self.tokens < 0) or np.any(self.tokens >= n_vocab):
            contradicts(f"a token is not one of the vocabulary's {n_vocab}")
        self.held.check(len(self), len(self.tokens))


class CacheRows(Protocol):
    """Which rows of one cache's pool the sequences and checkpoints hold."""

    def tables(self) -> dict[str, Array]:
        """As they stand in a state file."""
        ...

    def only(self, owners: Int64) -> Any:
        """Of some of the owners, by index."""
        ...

    def check(self, saved: "Saved", count: int) -> None:
        """Raise StateFileError where they contradict ``saved``, or the pool's ``count`` rows."""
        ...

    def check_marks(self, saved: "Saved") -> None:
        """Raise StateFileError where a sequence can't go back to a checkpoint of its own."""
        ...


@dataclass(frozen=True)
class Saved:
    """Sequences, and checkpoints of theirs, as they are written to a file and read from it."""

    sequences: SavedSequences
    caches: tuple[CacheRows, ...]
    """For each cache, in the order in which memory has them."""
    marks: TokenRows
    """Where each sequence can go back to, and, as rows, by which checkpoint."""
    checkpoints: int
    """How many there are, C."""

    @property
    def owners(self) -> int:
        """Sequences and checkpoints."""
        return len(self.sequences) + self.checkpoints

    def from_elsewhere(self) -> "Saved":
        """The same, as other tokens than those computed here, where numbers are rounded otherwise.

        So sequences share no token with others whose tokens are equal but not the same.
        """
        broken = np.zeros_like(self.sequences.broken)
        return replace(self, sequences=replace(self.sequences, broken=broken))

    def only(self, chosen: Int64) -> "Saved":
        """Some of the sequences, by index, with what they need; pools are as they were."""
        kept = np.unique(self.marks.only(chosen).rows)
        return self._with(chosen, kept.astype(np.int64))

    def with_checkpoints(self, most: int) -> "Saved":
        """The same with at most so many checkpoints, the most recently used."""
        if most >= self.checkpoints:
            return self
        kept = np.arange(self.checkpoints - most, self.checkpoints)
        return self._with(np.arange(len(self.sequences)), kept)

    def check(self, counts: Sequence[int], n_vocab: int) -> None:
        """Raise StateFileError where numbers contradict each other or lead nowhere.

        ``counts``: rows of each cache's pool.
        """
        self.sequences.check(n_vocab)
        if self.checkpoints > len(self.marks.rows):
            contradicts("there is a checkpoint that no sequence can go back to")
        self.marks.check(len(self.sequences), self.checkpoints)
        for rows, count in zip(self.caches, counts, strict=True):
            rows.check(self, count)

    def check_marks(self) -> None:
        """Raise StateFileError where a sequence can't go back to a checkpoint of its own.

        The work is that of going back to each of them: ask of those that are wanted, and are not
        more than a memory has.
        """
        marks, held = self.marks, self.sequences.held
        pairs = marks.owners << 32 | marks.rows
        if len(np.unique(pairs)) < len(pairs):
            contradicts("a sequence has one checkpoint at two positions")
        some = held.lengths > 0
        first, end = np.zeros((2, len(held.lengths)), np.int64)
        first[some] = held.positions[(held.ends - held.lengths)[some]]
        end[some] = held.positions[held.ends[some] - 1] + 1
        if np.any(marks.positions <= first[marks.owners]) or np.any(
            marks.positions > end[marks.owners]
        ):
            contradicts("a checkpoint is where its sequence has no tokens")
        for rows in self.caches:
            rows.check_marks(self)

    def _with(self, chosen: Int64, kept: Int64) -> "Saved":
        """``chosen`` sequences and ``kept`` checkpoints, by index."""
        owners = np.concatenate([chosen, len(self.sequences) + kept])
        marks = self.marks.only(chosen)
        of_kept = np.isin(marks.rows, kept)
        marker = marks.owners[of_kept]
        return Saved(
            self.sequences.only(chosen),
            tuple(rows.only(owners) for rows in self.caches),
            TokenRows(
                np.bincount(marker, minlength=len(chosen)),
                marks.positions[of_kept],
                np.searchsorted(kept, marks.rows[of_kept]).astype(np.int32),
            ),
            len(kept),
        )


@dataclass(frozen=True)
class Places:
    """Where the rows of a pool go; a row may go to several places, or to none."""

    rows: Int64
    """``[n]``, ascending."""
    slots: Int64
    """``[n]``: page × rows of a page + row in it."""

    @classmethod
    def of(cls, rows: Array, slots: Int64) -> "Places":
        """``rows`` in ``slots``, in any order; a place may come several times."""
        slots, first = np.unique(slots, return_index=True)
        order = np.argsort(rows[first], kind="stable")
        return cls(rows[first][order].astype(np.int64), slots[order])


def number_tokens(serials: Int64, slots: Int64) -> tuple[Int32, Int64]:
    """A row for each token, equal ``serials`` being one token, and the slot of each row.

    Rows are in order of first appearance, so that most of them follow each other in memory.
    """
    _, first, number = np.unique(serials, return_index=True, return_inverse=True)
    order = np.argsort(first)
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return ranks[number], slots[first[order]]


def check_all_used(rows: Int32, count: int) -> None:
    """Raise StateFileError unless each of ``count`` rows is among ``rows``, which are below it.

    So a small file can't claim, by a hole in it, an endless pool.
    """
    if count > len(rows) or not np.bincount(rows, minlength=count).all():
        contradicts("there is a row that nothing refers to")


def read_table(tables: Tables, name: str, dtype: type[np.generic]) -> Array:
    """A table of a state file. Raises StateFileError where it is missing or of another type."""
    found = tables.get(name)
    if found is None or found.dtype != dtype:
        raise StateFileError(
            f"is damaged: it has no table {name!r}",
            hint="an earlier copy may be whole; this one can't be restored",
        )
    return found


def contradicts(problem: str) -> NoReturn:
    """Raise StateFileError for numbers that cannot have been saved."""
    raise StateFileError(
        f"contradicts itself: {problem}", hint="it is damaged, or something else wrote it"
    )
