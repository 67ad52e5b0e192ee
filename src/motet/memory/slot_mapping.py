"""A micro-batch in terms of block tables: which entries of which sequences it writes."""

from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np

from motet.arrays import Bool, Int32, Int64, UInt64
from motet.kernels import PAGE
from motet.memory.page_masks import bit, span


class MicroBatch(Protocol):
    """Tokens that are computed together; ``sets`` share no sequence with each other."""

    @property
    def tokens(self) -> Int32: ...  # [T]
    @property
    def positions(self) -> Int32: ...  # [T], without gaps in each set
    @property
    def rows(self) -> Int64: ...  # [T], index into sets
    @property
    def sets(self) -> tuple[tuple[int, ...], ...]: ...  # [R], sequences that share tokens
    @property
    def entries(self) -> Int64: ...  # [T], the caller's numbers, for errors
    @property
    def rewindable(self) -> Bool | None: ...  # [T], tokens that may be taken back; None for none


class SlotMapping(NamedTuple):
    """A micro-batch's tokens by set, and the table entries that they touch.

    It is the same for every paged cache, because a token's place in its sequence's pages follows
    from its position alone. A set's table is read as its first sequence's.
    """

    tokens: Int32
    """``[T]``."""
    positions: Int32
    """``[T]``."""
    rows: Int64
    """``[T]``: the set that each token belongs to."""
    leaders: Int64
    """``[R]``: the first sequence of each set."""
    sizes: Int64
    """``[R]``: how many there are in it."""
    first: Int64
    """``[M]``: the first position that each member of a set is given."""
    end: Int64
    """``[M]``: one after the last."""
    members: Int64
    """``[M]``: the sequences of all sets."""
    entry_seqs: Int64
    """``[K]``: first sequence of the set that touches a table entry."""
    entries: Int64
    """``[K]``: the table entry, position // PAGE."""
    bits: UInt64
    """``[K]``: the positions written in it."""
    sharers: Int64
    """``[K]``: how many sequences are in the set."""
    member_entry: Int64
    """``[N]``: every touched entry once for each member: index into the ``[K]`` arrays …"""
    member_seqs: Int64
    """``[N]``: … and the member."""
    rewindable: Bool | None
    """``[T]``: which tokens may be taken back, each of one sequence; None for none."""

    @classmethod
    def of(cls, batch: MicroBatch) -> "SlotMapping":
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
            first=np.repeat(first, sizes),
            end=np.repeat(end, sizes),
            members=members,
            entry_seqs=leaders[row],
            entries=entries,
            bits=span(first[row], end[row], entries),
            sharers=sizes[row],
            member_entry=member_entry,
            member_seqs=members[offsets[row][member_entry] + member],
            rewindable=batch.rewindable,
        )

    @classmethod
    def _one_each(cls, batch: MicroBatch, members: Int64) -> "SlotMapping":
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
            first=first,
            end=first + 1,
            members=members,
            entry_seqs=members,
            entries=first // PAGE,
            bits=bit(first),
            sharers=ones,
            member_entry=numbers,
            member_seqs=members,
            rewindable=batch.rewindable,
        )


def ragged(counts: Int64) -> tuple[Int64, Int64]:
    """(owner, index within it) of every item, where owner i has ``counts[i]`` items."""
    owner = np.repeat(np.arange(len(counts)), counts)
    before = counts.cumsum() - counts
    return owner, np.arange(len(owner)) - before[owner]
