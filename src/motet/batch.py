"""Batch: the tokens of one ``decode``, by sequence and position."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import index
from typing import Any

import numpy as np

from motet.errors import BatchError

_MOST = np.iinfo(np.int32).max
_NONE, _LAST, _ALL = range(3)
_WANTED = {"none": _NONE, "last": _LAST, "all": _ALL}


@dataclass(frozen=True)
class _Run:
    """Consecutive entries at consecutive positions."""

    tokens: list[int]
    start: int
    set: int
    wanted: int
    end: int
    """Entries in the batch up to and with this run."""


class Batch:
    """Tokens to decode, of any sequences in any order; each sequence's own in order of position.

    A token may belong to several sequences, which then share what caches keep of it.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._sets: dict[tuple[int, ...], int] = {}

    def __len__(self) -> int:
        return self._runs[-1].end if self._runs else 0

    def add(
        self, token: int, position: int, seqs: int | tuple[int, ...] = 0, logits: bool = False
    ) -> None:
        """Append one entry; ``seqs``: the sequence, or all those, that the token belongs to.

        Raises BatchError for what no model and no memory could take.
        """
        entry = len(self)
        tokens = [_number("token", token, entry)]
        self._append(tokens, position, seqs, _ALL if logits else _NONE)

    def extend(
        self,
        tokens: Sequence[int] | np.ndarray,
        start: int,
        seqs: int | tuple[int, ...] = 0,
        logits: str = "last",
    ) -> None:
        """Append an entry for each of ``tokens``, at positions ``start``, ``start`` + 1, …

        ``logits``: whose are wanted, "none", "last" or "all". Raises BatchError as ``add`` does.
        """
        if logits not in _WANTED:
            raise BatchError(
                f"logits is {logits!r}", entry=len(self), hint='use "none", "last" or "all"'
            )
        self._append(_token_ids(tokens, len(self)), start, seqs, _WANTED[logits])

    def entries(self) -> "Entries":
        """Everything added so far, as arrays."""
        if len(self._runs) == len(self):
            return self._single_entries()
        counts = np.array([len(run.tokens) for run in self._runs], np.int64)
        ends = np.cumsum(counts)
        wanted = np.array([run.wanted for run in self._runs], np.int64)
        rows = np.repeat(wanted == _ALL, counts)
        rows[ends[wanted == _LAST] - 1] = True
        before = np.array([run.start for run in self._runs], np.int64) - (ends - counts)
        return Entries(
            tokens=np.fromiter(chain.from_iterable(run.tokens for run in self._runs), np.int32),
            positions=(np.repeat(before, counts) + np.arange(len(self))).astype(np.int32),
            set_of=np.repeat(np.array([run.set for run in self._runs], np.int64), counts),
            sets=tuple(self._sets),
            wanted=rows,
        )

    def _single_entries(self) -> "Entries":
        """As ``entries``, where each was added by itself: when text is generated."""
        return Entries(
            tokens=np.array([run.tokens[0] for run in self._runs], np.int32),
            positions=np.array([run.start for run in self._runs], np.int32),
            set_of=np.array([run.set for run in self._runs], np.int64),
            sets=tuple(self._sets),
            wanted=np.array([run.wanted != _NONE for run in self._runs], bool),
        )

    def _append(
        self, tokens: list[int], start: int, seqs: int | tuple[int, ...], wanted: int
    ) -> None:
        entry = len(self)
        members = _members(seqs, entry)
        start = _number("position", start, entry)
        if start + len(tokens) - 1 > _MOST:
            _number("position", _MOST + 1, entry + _MOST + 1 - start)
        if tokens:
            number = self._sets.setdefault(members, len(self._sets))
            self._runs.append(_Run(tokens, start, number, wanted, entry + len(tokens)))


@dataclass(frozen=True)
class Entries:
    """A batch as arrays, one element an entry."""

    tokens: np.ndarray
    """int32 ``[N]``."""
    positions: np.ndarray
    """int32 ``[N]``."""
    set_of: np.ndarray
    """int64 ``[N]``: index into ``sets``."""
    sets: tuple[tuple[int, ...], ...]
    """The different sets of sequences, each ascending."""
    wanted: np.ndarray
    """bool ``[N]``: whether the entry's logits are."""

    def __len__(self) -> int:
        return len(self.tokens)

    def check(self, n_vocab: int, ends: np.ndarray) -> None:
        """Raise BatchError unless every sequence goes on where it ends, without gaps.

        ``ends``: int64 ``[S]``, the next position of each sequence the memory has; 0 for an empty
        one, which may begin anywhere.
        """
        if not len(self):
            raise BatchError("the batch is empty", hint="add a token to it")
        if int(self.tokens.max()) >= n_vocab:
            entry = int(np.argmax(self.tokens >= n_vocab))
            raise BatchError(
                f"entry {entry} is token {self.tokens[entry]}, and the vocabulary has {n_vocab}",
                entry=entry,
            )
        members = np.fromiter(chain.from_iterable(self.sets), np.int64)
        if members.max() >= len(ends):
            unknown = [members[-1] >= len(ends) for members in self.sets]
            entry = int(np.argmax(np.array(unknown)[self.set_of]))
            raise BatchError(
                f"entry {entry} is of sequence {self.sets[self.set_of[entry]][-1]}, and this"
                f" context has {len(ends)}, numbered from 0",
                entry=entry,
                hint="give the context a larger max_sequences",
            )
        if len(members) == len(self.sets) == len(self):  # a token each: no order to look at
            due = ends[members[self.set_of]]
            if np.all((due == self.positions) | (due == 0)):
                return
        self._check_positions(members, ends)

    def _check_positions(self, members: np.ndarray, ends: np.ndarray) -> None:
        sizes = np.array([len(members) for members in self.sets])
        counts = sizes[self.set_of]
        entry = np.repeat(np.arange(len(self)), counts)
        offset = (np.cumsum(sizes) - sizes)[self.set_of] - (np.cumsum(counts) - counts)
        seq = members[np.repeat(offset, counts) + np.arange(len(entry))]
        order = np.argsort(seq, kind="stable")
        entry, seq = entry[order], seq[order]
        at = self.positions[entry].astype(np.int64)
        first = np.flatnonzero(np.diff(seq, prepend=-1))
        begins = np.where(ends[seq[first]] > 0, ends[seq[first]], at[first])
        lengths = np.diff(first, append=len(seq))
        due = np.repeat(begins - first, lengths) + np.arange(len(seq))
        wrong = np.flatnonzero(at != due)
        if not wrong.size:
            return
        worst = wrong[np.argmin(entry[wrong])]
        i, s, p, n = int(entry[worst]), int(seq[worst]), int(at[worst]), int(due[worst])
        raise BatchError(
            f"entry {i} is position {p} of sequence {s}, which goes on at position {n}",
            entry=i,
            hint="remove what is in the way first" if p < n else "positions leave no gaps",
        )


def _members(seqs: int | tuple[int, ...], entry: int) -> tuple[int, ...]:
    if isinstance(seqs, int | np.integer):
        return (_number("sequence", seqs, entry),)
    members = sorted(_number("sequence", seq, entry) for seq in seqs)
    if not members or len(set(members)) < len(members):
        raise BatchError(
            f"entry {entry} has sequences {tuple(seqs)}",
            entry=entry,
            hint="give at least one, and each of them once",
        )
    return tuple(members)


def _number(name: str, value: Any, entry: int) -> int:
    try:
        number = index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= _MOST:
        raise BatchError(
            f"entry {entry} has {name} {value!r}",
            entry=entry,
            hint=f"it has to be a whole number from 0 to {_MOST}",
        )
    return number


def _token_ids(tokens: Sequence[int] | np.ndarray, entry: int) -> list[int]:
    """``tokens`` as ints; checked in one go, and one by one to say which is wrong."""
    ids = tokens.tolist() if isinstance(tokens, np.ndarray) else list(tokens)
    if set(map(type, ids)) == {int} and min(ids) >= 0 and max(ids) <= _MOST:
        return ids
    return [_number("token", token, entry + i) for i, token in enumerate(ids)]
