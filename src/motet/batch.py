"""Batch: the tokens of one ``decode``, by sequence and position."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np

from motet import checks
from motet.errors import BatchError, OptionError
from motet.memory.cache import REWIND

_MOST = np.iinfo(np.int32).max
_MOST_SEQUENCES = 1 << 16
"""As many as a context may have."""
_NONE, _LAST, _ALL = range(3)
_WANTED = {"none": _NONE, "last": _LAST, "all": _ALL}

Checked = TypeVar("Checked")


class _Run(NamedTuple):
    """Consecutive entries at consecutive positions."""

    tokens: list[int]
    start: int
    set: int
    wanted: int
    rewindable: bool
    end: int
    """Entries in the batch up to and with this run."""


class Batch:
    """Tokens to decode, of any sequences in any order; each sequence's own in order of position.

    A token may belong to several sequences, which then share what caches keep of it.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._sets: dict[tuple[int, ...], int] = {}
        self._rewindable = False

    def __len__(self) -> int:
        return self._runs[-1].end if self._runs else 0

    def __repr__(self) -> str:
        seqs = sorted(set(chain.from_iterable(self._sets)))
        rows = sum(
            len(run.tokens) if run.wanted == _ALL else run.wanted == _LAST for run in self._runs
        )
        return (
            f"<motet.Batch: {len(self)} entries of sequences {checks.shown(seqs)}, {rows} rows of"
            " logits wanted>"
        )

    @checks.named
    def add(
        self, token: int, position: int, seqs: int | tuple[int, ...] = 0, logits: bool = False
    ) -> None:
        """Append one entry; ``seqs``: the sequence, or all those, that the token belongs to.

        Raises BatchError for what no model and no memory could take.
        """
        entry = len(self)
        tokens = [_number("token", token, entry)]
        if logits is not True and logits is not False:
            logits = _checked(entry, checks.flag, "logits", logits)
        self._append(tokens, position, seqs, _ALL if logits else _NONE)

    @checks.named
    def extend(
        self,
        tokens: Sequence[int] | np.ndarray,
        start: int,
        seqs: int | tuple[int, ...] = 0,
        logits: str = "last",
        rewindable: bool = False,
    ) -> None:
        """Append an entry for each of ``tokens``, at positions ``start``, ``start`` + 1, …

        ``logits``: whose are wanted, "none", "last" or "all". ``rewindable``: whether memory, of
        whatever kind, is to be able to go back to any position among these, and so before any of
        these tokens, until the sequence goes on; of one sequence, and at most 64 tokens of it in a
        decode. Raises BatchError as ``add`` does.
        """
        entry = len(self)
        if not isinstance(logits, str) or logits not in _WANTED:
            _checked(entry, checks.choice, "logits", logits, _WANTED)
        if rewindable is not True and rewindable is not False:
            rewindable = _checked(entry, checks.flag, "rewindable", rewindable)
        self._append(_token_ids(tokens, entry), start, seqs, _WANTED[logits], rewindable)

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
            rewindable=self._rewindable_entries(),
        )

    def _single_entries(self) -> "Entries":
        """As ``entries``, where each was added by itself: when text is generated."""
        return Entries(
            tokens=np.array([run.tokens[0] for run in self._runs], np.int32),
            positions=np.array([run.start for run in self._runs], np.int32),
            set_of=np.array([run.set for run in self._runs], np.int64),
            sets=tuple(self._sets),
            wanted=np.array([run.wanted != _NONE for run in self._runs], bool),
            rewindable=self._rewindable_entries(),
        )

    def _rewindable_entries(self) -> np.ndarray | None:
        if not self._rewindable:
            return None
        counts = [len(run.tokens) for run in self._runs]
        return np.repeat([run.rewindable for run in self._runs], counts)

    def _append(
        self,
        tokens: list[int],
        start: int,
        seqs: int | tuple[int, ...],
        wanted: int,
        rewindable: bool = False,
    ) -> None:
        entry = len(self)
        members = _members(seqs, entry)
        if rewindable and len(members) > 1:
            raise BatchError(
                f"entry {entry} is rewindable, and of {len(members)} sequences",
                entry=entry,
                hint="add rewindable tokens to each sequence apart",
            )
        start = _number("position", start, entry)
        if start + len(tokens) - 1 > _MOST:
            _number("position", _MOST + 1, entry + _MOST + 1 - start)
        if tokens:
            number = self._sets.setdefault(members, len(self._sets))
            end = entry + len(tokens)
            self._runs.append(_Run(tokens, start, number, wanted, rewindable, end))
            self._rewindable |= rewindable


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
    rewindable: np.ndarray | None
    """bool ``[N]``: whether memory is to be able to go back before the entry; None where it need
    not before any."""

    def __len__(self) -> int:
        return len(self.tokens)

    def check(self, n_vocab: int, ends: np.ndarray) -> None:
        """Raise BatchError unless every sequence goes on where it ends, without gaps.

        ``ends``: int64 ``[S]``, the next position of each sequence the memory has; 0 for an empty
        one, which may begin anywhere.
        """
        members = self.check_numbers(n_vocab, len(ends))
        if self.rewindable is not None:
            self._check_rewindable(self.rewindable)
        if len(members) == len(self.sets) == len(self):  # a token each: no order to look at
            due = ends[members[self.set_of]]
            if np.count_nonzero((due == self.positions) | (due == 0)) == len(self):
                return
        self._check_positions(members, ends)

    def check_numbers(self, n_vocab: int, n_sequences: int) -> np.ndarray:
        """The members of all sets. Raises BatchError for a token or sequence that there is not."""
        if not len(self):
            raise BatchError("the batch is empty", hint="add a token to it")
        if np.maximum.reduce(self.tokens) >= n_vocab:
            entry = int(np.argmax(self.tokens >= n_vocab))
            raise BatchError(
                f"entry {entry} is token {self.tokens[entry]}, and the vocabulary has {n_vocab}",
                entry=entry,
            )
        members = np.fromiter(chain.from_iterable(self.sets), np.int64)
        if np.maximum.reduce(members) >= n_sequences:
            unknown = [members[-1] >= n_sequences for members in self.sets]
            entry = int(np.argmax(np.array(unknown)[self.set_of]))
            raise BatchError(
                f"entry {entry} is of sequence {self.sets[self.set_of[entry]][-1]}, and this"
                f" context has {n_sequences}, numbered from 0",
                entry=entry,
                hint="give the context a larger max_sequences",
            )
        return members

    def _check_rewindable(self, rewindable: np.ndarray) -> None:
        """Raise BatchError for more tokens of a sequence than memory goes back on request."""
        counts = np.bincount(self.set_of[rewindable])
        if counts.max(initial=0) > REWIND:
            number = int(counts.argmax())
            entry = int(np.flatnonzero(rewindable & (self.set_of == number))[REWIND])
            raise BatchError(
                f"the batch has {counts[number]} rewindable tokens of sequence"
                f" {self.sets[number][0]}, and memory keeps what is before {REWIND} of them",
                entry=entry,
                hint="decode the first ones in a batch of their own, without rewindable",
            )

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
    if type(seqs) is int or isinstance(seqs, np.integer):
        return (_number("sequence", seqs, entry),)
    given = _checked(entry, checks.collection, "seqs", seqs, "sequences", _MOST_SEQUENCES)
    members = set[int]()
    for seq in given:
        number = _number("sequence", seq, entry)
        if number in members:
            raise BatchError(
                f"entry {entry} has sequence {number} twice", entry=entry, hint="give each once"
            )
        members.add(number)
    if not members:
        raise BatchError(f"entry {entry} has no sequence", entry=entry, hint="give at least one")
    return tuple(sorted(members))


def _number(name: str, value: Any, entry: int) -> int:
    if type(value) is int and 0 <= value <= _MOST:
        return value
    return _checked(entry, checks.whole, f"the {name} of entry {entry}", value, 0, _MOST)


def _checked(entry: int, check: Callable[..., Checked], *arguments: object) -> Checked:
    """What a check gives; what it raises names the entry."""
    try:
        return check(*arguments)
    except OptionError as error:
        raise BatchError(error.message, entry=entry, hint=error.hint) from None


def _token_ids(tokens: Any, entry: int) -> list[int]:
    """``tokens`` as ints; checked in one go, and one by one to say which is wrong."""
    ids = tokens.tolist() if isinstance(tokens, np.ndarray) else tokens
    if type(ids) is list:
        ids = ids.copy()
    else:
        ids = list(_checked(entry, checks.listed, "tokens", ids, "token ids"))
    if set(map(type, ids)) == {int} and min(ids) >= 0 and max(ids) <= _MOST:
        return ids
    return [_number("token", token, entry + i) for i, token in enumerate(ids)]
