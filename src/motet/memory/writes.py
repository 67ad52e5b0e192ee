"""What one micro-batch writes, in terms of page tables."""

from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np

from motet.kernels.paged import PAGE
from motet.memory.bits import ragged, span


class MicroBatch(Protocol):
    """Tokens that are computed together; ``sets`` share no sequence with each other."""

    @property
    def tokens(self) -> np.ndarray: ...  # int32 [T]
    @property
    def positions(self) -> np.ndarray: ...  # int32 [T], without gaps in each set
    @property
    def rows(self) -> np.ndarray: ...  # int64 [T], index into sets
    @property
    def sets(self) -> tuple[tuple[int, ...], ...]: ...  # [R], sequences that share tokens
    @property
    def entries(self) -> np.ndarray: ...  # int64 [T], the caller's numbers, for errors


@dataclass(frozen=True)
class Writes:
    """A micro-batch's tokens by set, and the table entries that they touch.

    It is the same for all attention layers, because a token's place in its sequence's pages
    follows from its position alone. A set's table is read as its first sequence's.
    """

    tokens: np.ndarray
    """int32 ``[T]``."""
    positions: np.ndarray
    """int32 ``[T]``."""
    rows: np.ndarray
    """int64 ``[T]``: the set that each token belongs to."""
    leaders: np.ndarray
    """int64 ``[R]``: the first sequence of each set."""
    sizes: np.ndarray
    """int64 ``[R]``: how many there are in it."""
    readers: np.ndarray
    """int64 ``[T]``: the sequence whose table each token reads."""
    first: np.ndarray
    """int64 ``[M]``: the first position that each member of a set is given."""
    end: np.ndarray
    """int64 ``[M]``: one after the last."""
    members: np.ndarray
    """int64 ``[M]``: the sequences of all sets."""
    entry_seqs: np.ndarray
    """int64 ``[K]``: first sequence of the set that touches a table entry."""
    entries: np.ndarray
    """int64 ``[K]``: the table entry, position // PAGE."""
    bits: np.ndarray
    """uint64 ``[K]``: the positions written in it."""
    sharers: np.ndarray
    """int64 ``[K]``: how many sequences are in the set."""
    member_entry: np.ndarray
    """int64 ``[N]``: every touched entry once for each member: index into the ``[K]`` arrays …"""
    member_seqs: np.ndarray
    """int64 ``[N]``: … and the member."""

    @classmethod
    def of(cls, batch: MicroBatch) -> "Writes":
        """``batch`` as table entries."""
        members = np.fromiter(chain.from_iterable(batch.sets), np.int64)
        if len(members) == len(batch.sets) == len(batch.tokens):
            return cls._one_each(batch, members)
        sizes = np.array([len(members) for members in batch.sets])
        offsets = sizes.cumsum() - sizes
        leaders = members[offsets]
        first = np.empty(len(sizes), np.int64)
        first[batch.rows[::-1]] = batch.positions[::-1]  # a set's earliest token is assigned last
        end = first + np.bincount(batch.rows, minlength=len(sizes))
        row, index = ragged((end - 1) // PAGE - first // PAGE + 1)
        entries = first[row] // PAGE + index
        member_entry, member = ragged(sizes[row])
        return cls(
            tokens=batch.tokens,
            positions=batch.positions,
            rows=batch.rows,
            leaders=leaders,
            sizes=sizes,
            readers=leaders[batch.rows],
            first=np.repeat(first, sizes),
            end=np.repeat(end, sizes),
            members=members,
            entry_seqs=leaders[row],
            entries=entries,
            bits=span(first[row], end[row], entries),
            sharers=sizes[row],
            member_entry=member_entry,
            member_seqs=members[offsets[row][member_entry] + member],
        )

    @classmethod
    def _one_each(cls, batch: MicroBatch, members: np.ndarray) -> "Writes":
        """As ``of``, where every sequence has a token of its own: when text is generated."""
        numbers, ones = np.arange(len(members)), np.ones(len(members), np.int64)
        first = np.empty(len(members), np.int64)
        first[batch.rows] = batch.positions
        return cls(
            tokens=batch.tokens,
            positions=batch.positions,
            rows=batch.rows,
            leaders=members,
            sizes=ones,
            readers=members[batch.rows],
            first=first,
            end=first + 1,
            members=members,
            entry_seqs=members,
            entries=first // PAGE,
            bits=np.uint64(1) << (first % PAGE).astype(np.uint64),
            sharers=ones,
            member_entry=numbers,
            member_seqs=members,
        )
