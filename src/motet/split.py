"""The three ways to cut a batch into micro-batches. By the solo law all give the same bits."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from motet import checks
from motet.batch import Entries


class Ubatch(NamedTuple):
    """Tokens that are computed together.

    Two sets of sequences in it are equal or share no sequence: a token that some sequences share
    and the token by which they part lie in different micro-batches.
    """

    tokens: np.ndarray
    """int32 ``[T]``."""
    positions: np.ndarray
    """int32 ``[T]``; those of one set follow each other without gaps."""
    rows: np.ndarray
    """int64 ``[T]``: index into ``sets``."""
    sets: tuple[tuple[int, ...], ...]
    """``[R]``: the sequences that share a token."""
    entries: np.ndarray
    """int64 ``[T]``: number of each token's entry in the batch."""
    wanted: np.ndarray
    """int64: the rows among T whose logits are wanted."""
    rewindable: np.ndarray | None = None
    """bool ``[T]``: before which tokens memory is to be able to go back; None for none."""

    @property
    def last(self) -> np.ndarray:
        """int64 ``[R]``: the row of the last token of each set."""
        from_end = np.unique(self.rows[::-1], return_index=True)[1]
        return len(self.rows) - 1 - from_end


def split(entries: Entries, size: int, policy: str) -> list[Ubatch]:
    """``entries`` in micro-batches of at most ``size`` tokens.

    ``policy``: "simple", the next tokens in order; "equal", sequences advance together by equal
    lengths; "sequence", one set of sequences at a time.
    """
    cut = _POLICIES[policy]
    if cut is _simple and len(entries) <= size and _disjoint(entries):
        return [_whole(entries)]
    return [_ubatch(entries, numbers) for numbers in cut(entries, size)]


def choose_policy(policy: str) -> str:
    """``policy``, or for "auto" the fastest. Raises OptionError if there is none of that name."""
    chosen = checks.choice("split", policy, ("auto", *_POLICIES))
    return _FASTEST if chosen == "auto" else chosen


def _whole(entries: Entries) -> Ubatch:
    return Ubatch(
        tokens=entries.tokens,
        positions=entries.positions,
        rows=entries.set_of,
        sets=entries.sets,
        entries=np.arange(len(entries)),
        wanted=np.flatnonzero(entries.wanted),
        rewindable=entries.rewindable,
    )


def _ubatch(entries: Entries, numbers: np.ndarray) -> Ubatch:
    rows, sets = entries.set_of[numbers], entries.sets
    if len(numbers) < len(entries):
        used, rows = np.unique(rows, return_inverse=True)
        sets = tuple(sets[i] for i in used.tolist())
    return Ubatch(
        tokens=entries.tokens[numbers],
        positions=entries.positions[numbers],
        rows=rows,
        sets=sets,
        entries=numbers,
        wanted=np.flatnonzero(entries.wanted[numbers]),
        rewindable=None if entries.rewindable is None else entries.rewindable[numbers],
    )


def _simple(entries: Entries, size: int) -> Iterator[np.ndarray]:
    every, start = np.arange(len(entries)), 0
    if not _disjoint(entries):
        owner: dict[int, int] = {}
        for first, end, number in _runs(entries):
            members = entries.sets[number]
            if any(owner.get(seq, number) != number for seq in members):
                yield every[start:first]
                start, owner = first, {}
            while end - start > size:
                yield every[start : start + size]
                start, owner = start + size, {}
            owner |= dict.fromkeys(members, number)
    for i in range(start, len(entries), size):
        yield every[i : i + size]


def _sequence(entries: Entries, size: int) -> Iterator[np.ndarray]:
    for stretch in _stretches(entries):
        for i in range(0, len(stretch), size):
            yield stretch[i : i + size]


def _equal(entries: Entries, size: int) -> Iterator[np.ndarray]:
    left = _stretches(entries)
    while left:
        chosen: list[int] = []
        blocked: set[int] = set()
        for i, stretch in enumerate(left):
            members = entries.sets[entries.set_of[stretch[0]]]
            if len(chosen) < size and blocked.isdisjoint(members):
                chosen.append(i)
            blocked.update(members)
        length = min(size // len(chosen), min(len(left[i]) for i in chosen))
        yield np.concatenate([left[i][:length] for i in chosen])
        for i in chosen:
            left[i] = left[i][length:]
        left = [stretch for stretch in left if stretch.size]


_POLICIES: dict[str, Callable[[Entries, int], Iterator[np.ndarray]]] = {
    "simple": _simple,
    "equal": _equal,
    "sequence": _sequence,
}

_FASTEST = "simple"
"""On every kind of memory: it makes the fewest and fullest micro-batches, and kernels take runs of
any lengths in any order."""


def _disjoint(entries: Entries) -> bool:
    members = list(chain.from_iterable(entries.sets))
    return len(members) == len(set(members))


def _runs(entries: Entries) -> Iterator[tuple[int, int, int]]:
    """(first, end, set number) of neighbouring entries with the same set."""
    first = np.flatnonzero(np.diff(entries.set_of, prepend=-1))
    ends = np.append(first[1:], len(entries))
    yield from zip(first.tolist(), ends.tolist(), entries.set_of[first].tolist(), strict=True)


def _stretches(entries: Entries) -> list[np.ndarray]:
    """Entries of one set that no other set of any of its sequences comes between, in order."""
    if _disjoint(entries):
        order = np.argsort(entries.set_of, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(entries.set_of[order])) + 1)
    stretches: list[tuple[int, list[range]]] = []
    latest: dict[int, int] = {}
    for first, end, number in _runs(entries):
        members = entries.sets[number]
        at = {latest.get(seq, -1) for seq in members}
        i = at.pop()
        if at or i < 0 or stretches[i][0] != number:
            i = len(stretches)
            stretches.append((number, []))
            latest |= dict.fromkeys(members, i)
        stretches[i][1].append(range(first, end))
    return [np.fromiter(chain.from_iterable(ranges), np.int64) for _, ranges in stretches]
