"""Whole sequences of a batch, for encoders, in micro-batches that cut none of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from motet.arrays import Int32, Int64
from motet.batch import Entries
from motet.errors import BatchError, CapacityError
from motet.models.family import Whole


@dataclass(frozen=True)
class Sequences:
    """Some whole sequences, one after another."""

    seqs: tuple[int, ...]
    """``[S]``: their numbers."""
    tokens: Int32
    """``[T]``."""
    entries: Int64
    """``[T]``: number of each token's entry in the batch."""
    view: Whole

    @property
    def positions(self) -> Int32:
        """``[T]``."""
        return self.view.positions

    @property
    def rows(self) -> Int64:
        """``[T]``: which of the sequences each token belongs to."""
        return np.repeat(np.arange(len(self.seqs)), np.diff(self.view.starts))

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The sequences, each by itself."""
        return tuple((seq,) for seq in self.seqs)

    @property
    def rewindable(self) -> None:
        """Nothing goes back to the middle of an encoder's text."""


def whole_sequences(entries: Entries, longest: int) -> list[tuple[int, Int64]]:
    """The numbers of a batch's sequences, and the entries of each in order of position.

    Raises BatchError for a sequence that does not begin at position 0, has gaps or shares a token,
    and for a rewindable one; CapacityError for one of more tokens than ``longest``.
    """
    if entries.rewindable is not None:
        entry = int(entries.rewindable.argmax())
        raise BatchError(
            f"entry {entry} is rewindable, and an encoder takes its sequence as a whole",
            entry=entry,
            hint="add it without rewindable",
        )
    found: list[tuple[int, Int64]] = []
    seen: set[int] = set()
    order = np.argsort(entries.set_of, kind="stable")
    starts = np.flatnonzero(np.diff(entries.set_of[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        first, members = int(rows[0]), entries.sets[entries.set_of[rows[0]]]
        seq = members[0]
        if len(members) > 1 or seq in seen:
            raise BatchError(
                f"entry {first} shares a token with another sequence, and an encoder's tokens see"
                " their whole sequence",
                entry=first,
                hint="add the tokens of each sequence apart",
            )
        seen.add(seq)
        wrong = np.flatnonzero(entries.positions[rows] != np.arange(len(rows)))
        if wrong.size:
            due = int(wrong[0])
            entry = int(rows[due])
            raise BatchError(
                f"entry {entry} is position {entries.positions[entry]} of sequence {seq}, where"
                f" {due} is due",
                entry=entry,
                hint="an encoder sees a whole sequence at once: add all of its tokens, from 0 on",
            )
        if len(rows) > longest:
            raise CapacityError(
                f"sequence {seq} has {len(rows)} tokens, and the context is of {longest}",
                hint=f"cut it to {longest} tokens, or into parts",
            )
        found.append((seq, rows))
    return found


def in_micro_batches(
    entries: Entries, sequences: list[tuple[int, Int64]], size: int
) -> Iterator[Sequences]:
    """Neighbouring sequences together, up to ``size`` tokens; a longer one by itself."""
    some: list[tuple[int, Int64]] = []
    tokens = 0
    for sequence in sequences:
        if some and tokens + len(sequence[1]) > size:
            yield _together(entries, some)
            some, tokens = [], 0
        some.append(sequence)
        tokens += len(sequence[1])
    yield _together(entries, some)


def _together(entries: Entries, sequences: list[tuple[int, Int64]]) -> Sequences:
    rows = np.concatenate([rows for _, rows in sequences])
    lengths = [len(rows) for _, rows in sequences]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    view = Whole(entries.positions[rows], starts)
    return Sequences(tuple(seq for seq, _ in sequences), entries.tokens[rows], rows, view)
