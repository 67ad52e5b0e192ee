"""Which sequences can go back to which positions that layers no longer hold by themselves.

A checkpoint refers to what layers held when a sequence ended at a position: its recurrent state,
and the pages of sliding layers. Nothing is copied to make one; who goes on writes elsewhere.
Full attention needs none: whoever may use the checkpoint still holds the tokens before it, and so
their keys and values. These are the sequence that it was made of, and those that were copied from
it or share its tokens, for as long as they begin with the tokens that it saw.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from motet.arrays import Int64
from motet.memory.saved import TokenRows
from motet.memory.slot_mapping import MicroBatch

CHECKPOINT_EVERY = 512
"""Tokens from one automatic checkpoint to the next."""

MOST_CHECKPOINTS = 4096
"""However small they are; so that their bookkeeping takes next to no time."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What was held when a sequence ended somewhere."""

    holds: tuple[Any, ...]
    """One for each cache."""


Mark = tuple[int, Checkpoint]
"""Where a sequence can go back to, and by which checkpoint."""


@dataclass(frozen=True)
class Checkpoints:
    """All of them at one moment; replaced as a whole, never changed."""

    marks: tuple[tuple[Mark, ...], ...]
    """``[S]``: of each sequence, by position."""
    latest: Int64
    """``[S]``: where the last one was made, though it may be dropped since."""
    uses: Mapping[Checkpoint, tuple[bool, int]]
    """Whether it was asked for, and how many sequences may use it. Least recently used first."""

    @classmethod
    def empty(cls, sequences: int) -> "Checkpoints":
        """None, of any of ``sequences``."""
        return cls(((),) * sequences, np.zeros(sequences, np.int64), {})

    def export(self, seqs: Sequence[int]) -> tuple[list[tuple[int, Checkpoint]], TokenRows]:
        """Those that were asked for and that ``seqs`` may use, and where each sequence may.

        Each with a sequence that may use it, least recently used first.
        """
        marks = [self.marks[seq] for seq in seqs]
        user = {c: seq for seq, its in zip(seqs, marks, strict=True) for _, c in its}
        asked = [c for c, (asked_for, _) in self.uses.items() if asked_for and c in user]
        number = {checkpoint: row for row, checkpoint in enumerate(asked)}
        kept = [[(at, number[c]) for at, c in its if c in number] for its in marks]
        rows = TokenRows(
            np.array([len(its) for its in kept], np.int64),
            np.array([at for its in kept for at, _ in its], np.int32),
            np.array([row for its in kept for _, row in its], np.int32),
        )
        return [(user[checkpoint], checkpoint) for checkpoint in asked], rows


class CheckpointDraft:
    """Checkpoints being changed."""

    def __init__(self, base: Checkpoints, dropped: Callable[[Checkpoint], None]) -> None:
        """``dropped`` is called for each one that no sequence can use any more."""
        self._marks = list(base.marks)
        self.latest: Int64 = base.latest.copy()
        self._base_uses = base.uses
        self._own_uses: dict[Checkpoint, tuple[bool, int]] | None = None
        self._dropped = dropped

    def __len__(self) -> int:
        return len(self._base_uses if self._own_uses is None else self._own_uses)

    def find(self, seq: int, position: int) -> Checkpoint | None:
        """The checkpoint by which ``seq`` can go back to ``position``."""
        return next((c for at, c in self._marks[seq] if at == position), None)

    def nearest(self, seq: int, position: int) -> int:
        """The last position up to ``position`` with a checkpoint; 0 if there is none."""
        return max((at for at, _ in self._marks[seq] if at <= position), default=0)

    def add(self, members: Sequence[int], position: int, new: Checkpoint, asked: bool) -> None:
        """Let ``members``, which all end at ``position``, use a new checkpoint."""
        for seq in members:
            self._marks[seq] += ((position, new),)
        self._uses()[new] = asked, len(members)

    def fill(self, seqs: Int64, marks: TokenRows, new: Sequence[Checkpoint]) -> None:
        """Let ``seqs``, which have none, use checkpoints that were asked for, as ``marks`` say."""
        owners = np.bincount(marks.rows, minlength=len(new)).tolist()
        self._uses().update({c: (True, n) for c, n in zip(new, owners, strict=True)})
        for i, seq in enumerate(seqs.tolist()):
            at = marks.positions[marks.of(i)].tolist()
            rows: list[int] = marks.rows[marks.of(i)].tolist()
            self._marks[seq] = tuple(zip(at, [new[row] for row in rows], strict=True))
            self.latest[seq] = at[-1] if at else 0

    def use(self, checkpoint: Checkpoint, *, asked: bool = False) -> None:
        """Note that it was of use just now, or is asked for."""
        before, owners = self._uses().pop(checkpoint)
        self._uses()[checkpoint] = before or asked, owners

    def evict(self, too_many: Callable[[], bool], kept: Collection[Checkpoint]) -> None:
        """Drop the least recently used, those made automatically first, while ``too_many()``.

        ``kept``: not these.
        """
        by_use = list(self._uses().items())
        automatic = [c for c, (asked, _) in by_use if not asked]
        others = [c for c, (asked, _) in by_use if asked and c not in kept]
        self._drop(c for c in chain(automatic, others) if too_many())

    def drop_half(self, *, asked: bool, kept: Collection[Checkpoint] = ()) -> int:
        """Drop half of those made automatically, or of those ``asked`` for, or the last one; how
        many these were. ``kept``: not these."""
        its = [c for c, (for_it, _) in self._uses().items() if for_it == asked and c not in kept]
        dropped = -(-len(its) // 2)
        self._drop(its[:dropped])
        return dropped

    def cut(self, seq: int, position: int) -> None:
        """``seq`` holds other tokens, or none, from ``position`` on."""
        marks = self._marks[seq]
        if marks and marks[-1][0] > position:
            self._keep(seq, tuple(mark for mark in marks if mark[0] <= position))
        self.latest[seq] = min(self.latest[seq], position)

    def fork(self, source: int, target: int, position: int) -> None:
        """``target`` holds what ``source`` holds before ``position``, and nothing else."""
        self._keep(target, tuple(mark for mark in self._marks[source] if mark[0] <= position))
        self.latest[target] = min(self.latest[source], position)

    def adopt(self, leader: int, member: int) -> None:
        """Both hold the same: each may use those of the other too."""
        if self._marks[member] is not self._marks[leader]:
            both = {**dict(self._marks[member]), **dict(self._marks[leader])}
            marks = tuple(sorted(both.items(), key=_position))
            self._keep(member, marks)
            self._keep(leader, marks)

    def shift(self, seq: int, start: int, end: int, delta: int) -> None:
        """The tokens start … end - 1 of ``seq`` have moved, and their order is the same."""
        self._marks[seq] = tuple(
            (at + delta if start < at <= end else at, c) for at, c in self._marks[seq]
        )

    def seal(self) -> Checkpoints:
        """As they have become."""
        uses = self._base_uses if self._own_uses is None else self._own_uses
        return Checkpoints(tuple(self._marks), self.latest, uses)

    def _uses(self) -> dict[Checkpoint, tuple[bool, int]]:
        if self._own_uses is None:
            self._own_uses = dict(self._base_uses)
        return self._own_uses

    def _drop(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Drop these, each before the next one is asked for."""
        gone = set[Checkpoint]()
        for checkpoint in checkpoints:
            del self._uses()[checkpoint]
            self._dropped(checkpoint)
            gone.add(checkpoint)
        for seq, marks in enumerate(self._marks):
            if any(c in gone for _, c in marks):
                self._marks[seq] = tuple(mark for mark in marks if mark[1] not in gone)

    def _keep(self, seq: int, marks: tuple[Mark, ...]) -> None:
        before, after = ({c for _, c in m} for m in (self._marks[seq], marks))
        self._marks[seq] = marks
        uses = self._uses()
        for checkpoint in after - before:
            asked, owners = uses[checkpoint]
            uses[checkpoint] = asked, owners + 1
        for checkpoint in before - after:
            asked, owners = uses[checkpoint]
            uses[checkpoint] = asked, owners - 1
            if owners == 1:
                del uses[checkpoint]
                self._dropped(checkpoint)


def _position(mark: Mark) -> int:
    return mark[0]


Members = tuple[int, ...]


@dataclass
class RunEdges:
    """Where runs of several tokens begin and end: useful places to come back to. Tokens that may be
    taken back count apart.

    Of each micro-batch, by number: sets of sequences.
    """

    before: dict[int, list[Members]] = field(default_factory=lambda: defaultdict(list))
    """Those with a run of several tokens that begins in it."""
    after: dict[int, list[Members]] = field(default_factory=lambda: defaultdict(list))
    """Those with one that ends in it."""
    rewindable: dict[int, list[Members]] = field(default_factory=lambda: defaultdict(list))
    """Those with tokens that may be taken back, of which the first are in it."""
    open: dict[int, list[Members]] = field(default_factory=lambda: defaultdict(list))
    """Those whose last token in it may be taken back."""


def run_edges(ubatches: Sequence[MicroBatch]) -> RunEdges:
    """Of runs of several tokens: those of one set, until another set of its sequences comes."""
    edges = RunEdges()
    first = ubatches[0]
    if len(ubatches) == 1 and first.rewindable is None and len(first.tokens) == len(first.sets):
        return edges  # a token each, as when text is generated
    latest: dict[int, _Run] = {}
    runs: list[_Run] = []
    for number, ubatch in enumerate(ubatches):
        plain, last = ubatch.rows, np.zeros(len(ubatch.sets), bool)
        if ubatch.rewindable is not None:
            last[plain] = ubatch.rewindable  # of several tokens the last one stays
            plain = plain[~ubatch.rewindable]
        counts = np.bincount(plain, minlength=len(last)).tolist()
        for members, count, open_ended in zip(ubatch.sets, counts, last.tolist(), strict=True):
            run = latest.get(members[0])
            if run is None or run.members != members:
                run = _Run(members, number)
                runs.append(run)
            latest |= dict.fromkeys(members, run)
            run.last = number
            run.tokens += count
            if open_ended:
                edges.open[number].append(members)
                if count or not run.open:
                    edges.rewindable[number].append(members)
            run.open = open_ended
    for run in runs:
        if run.tokens > 1:
            edges.before[run.first].append(run.members)
            if not run.open:
                edges.after[run.last].append(run.members)
    return edges


@dataclass
class _Run:
    members: Members
    first: int
    last: int = 0
    tokens: int = 0
    """Those that may not be taken back."""
    open: bool = False
    """Whether the last one may."""
