"""What every kind of cache offers memory, so that memory changes all of them or none.

A new kind is one new file that implements ``Cache`` and ``CacheDraft``, and a line in memory.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from motet.arrays import Array, Int64
from motet.kernels.interface import PagedKV
from motet.kernels.interface_recurrent import RecurrentState
from motet.memory.block_table import LayerSlots, TokenMoves
from motet.memory.saved import CacheRows, Places, Tables
from motet.memory.sequence_table import SequenceDraft, SequenceState, SequenceTable
from motet.memory.slot_mapping import SlotMapping

CacheKey = tuple[int, int]
"""A layer, and which of its caches."""

REWIND = 64
"""Tokens that can be taken back exactly: always the last ones of sliding layers, and where they
were decoded as rewindable of recurrent ones too."""


@dataclass(frozen=True)
class Limits:
    """How much memory is to hold."""

    max_sequences: int
    max_tokens: int
    """Of all sequences together."""
    ubatch: int
    """Tokens of the largest micro-batch."""
    kv_type: str
    """How keys and values are stored: see ``kernels.interface.KV_TYPES``."""
    kv_bytes: int
    """What all caches may take: keys, values and states, those of checkpoints included."""
    checkpoint_bytes: int
    """What checkpoints may keep of it, beside what sequences hold."""


class CacheView(Protocol):
    """One cache as one micro-batch sees it."""

    def begin(self) -> None:
        """Do what has to be done before the micro-batch is computed."""
        ...

    def cache(self, key: CacheKey) -> PagedKV | RecurrentState:
        """What the layer reads and writes."""
        ...


@dataclass(frozen=True)
class Exported:
    """What sequences and checkpoints hold of a cache, and where it lies."""

    rows: CacheRows
    slots: Int64
    """Of each row of the pool."""


@dataclass(frozen=True)
class Filled:
    """Where a cache wants what was saved."""

    places: Places
    holds: list[Any]
    """What each saved checkpoint refers to in it."""


class CacheDraft(Protocol):
    """A private copy of one cache's bookkeeping.

    It is changed freely and then sealed into the next state, or dropped; until then nothing that
    the present state holds is written over. The sequence table is always changed first.
    """

    def advance(self, mapping: SlotMapping, placed: LayerSlots) -> CacheView:
        """Make room for a micro-batch that comes after those advanced by before.

        ``placed``: where the sequence table has put its tokens. Raises CapacityError.
        """
        ...

    def reachable(self, seq: int, position: int) -> int:
        """The greatest position up to ``position`` that ``seq`` can be cut back to exactly."""
        ...

    def hold(self, seq: int) -> Any:
        """Refer to all that ``seq``, which is not empty, would lack if it came back here later."""
        ...

    def release(self, hold: Any) -> None:
        """Refer to it no more."""
        ...

    def hold_bytes(self, hold: Any) -> int:
        """What it keeps in memory, were it alone."""
        ...

    @property
    def held_bytes(self) -> int:
        """What all of them keep."""
        ...

    @property
    def used_bytes(self) -> int:
        """What is in use while the draft lives: by the present state, or by the next one."""
        ...

    def cut(self, seq: int, position: int, hold: Any | None) -> None:
        """Forget ``position`` and all that follows, of which there is some; and ``settle``.

        ``hold``: what was held when ``seq`` ended there; None where ``position`` is reachable
        without, or nothing is left.
        """
        ...

    def settle(self, seq: int) -> None:
        """Let go of what is kept of ``seq`` only so that it can take tokens back."""
        ...

    def forget(self, seq: int) -> None:
        """Forget what was kept of ``seq``, all of whose tokens are cut, beside its tokens."""
        ...

    def fork(self, source: int, target: int, position: int, hold: Any | None) -> None:
        """Give ``target``, which is empty, all that ``source`` holds before ``position``.

        ``hold``: as for ``cut``; None also where ``source`` ends there.
        """
        ...

    def remove(self, seq: int, start: int, end: int) -> None:
        """Take positions start … end - 1 out; never asked of a cache that is ``ordered``."""
        ...

    def insert(self, source: int, target: int, start: int, end: int, moves: TokenMoves) -> None:
        """Add positions start … end - 1 of ``source`` to ``target``, which has none of them.

        Never asked of a cache that is ``ordered``. ``moves``: what the sequence table's pages do.
        Raises CapacityError.
        """
        ...

    def shift(self, seq: int, start: int, end: int, delta: int, moves: TokenMoves) -> None:
        """Move positions start … end - 1 by ``delta`` to free ones. Raises as ``insert`` does."""
        ...

    def agrees(self, leader: int, member: int) -> bool:
        """Whether the two, if their tokens are the same, have the same here."""
        ...

    def adopt(self, leader: int, member: int) -> None:
        """Let ``member``, whose past equals ``leader``'s, go on with what ``leader`` has."""
        ...

    def missing(self, seq: int) -> int | None:
        """A position that the next token of ``seq`` would see and that is no longer here."""
        ...

    def fill(self, seqs: Int64, rows: Any, places: Places, checkpoints: int) -> Filled:
        """Give ``seqs``, which hold nothing, what was saved, ``checkpoints`` included.

        ``places``: where the sequence table has put the tokens. Raises CapacityError.
        """
        ...

    def write(self) -> None:
        """Copy what ``insert`` and ``shift`` have found places for, which write nothing."""
        ...

    def seal(self) -> Any:
        """The state as it has become; not changed any more."""
        ...


class Cache(Protocol):
    """One kind of cache: the arrays that some layers write, and the bookkeeping of their rows."""

    @property
    def name(self) -> str:
        """In state files."""
        ...

    @property
    def arrays(self) -> Mapping[CacheKey, Mapping[str, Array]]:
        """What each layer keeps, by name, each ``[pages, rows of a page, …]``."""
        ...

    @property
    def rewinds_anywhere(self) -> bool:
        """Whether it can go back to any position, so that checkpoints are of no use to it."""
        ...

    @property
    def ordered(self) -> bool:
        """Whether all tokens are in one state, so that none can be taken out or overtaken."""
        ...

    @property
    def holds_positions(self) -> bool:
        """Whether what a checkpoint refers to has its place by position."""
        ...

    def empty(self) -> Any:
        """The state in which nothing is held."""
        ...

    def draft(self, state: Any, sequences: SequenceDraft) -> CacheDraft:
        """A draft of ``state`` beside that of the sequence table."""
        ...

    def export(
        self,
        state: Any,
        table: SequenceTable,
        sequences: SequenceState,
        seqs: list[int],
        tokens: Int64,
        holds: list[tuple[int, Any]],
    ) -> Exported:
        """What ``seqs`` and then checkpoints hold.

        ``tokens``: the slots of the sequences' tokens, a row each. ``holds``: of each checkpoint a
        sequence that may use it, and what it refers to.
        """
        ...

    def read(self, tables: Tables) -> CacheRows:
        """The rows as a state file has them. Raises StateFileError where a table is missing."""
        ...

    def trim(self, states: Sequence[tuple[SequenceState, Any]]) -> None:
        """Give memory that none of these states uses back to the system.

        Each is one of the sequence table, and this cache's beside it.
        """
        ...
