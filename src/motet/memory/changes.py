"""How one state of a memory becomes the next: drafted beside it, within the bytes allowed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from motet.errors import CapacityError
from motet.machine import format_bytes
from motet.memory.cache import Cache
from motet.memory.export import Exports
from motet.memory.sequence_table import SequenceTable
from motet.memory.transaction import MemoryState, Transaction

Result = TypeVar("Result")


@dataclass(frozen=True)
class Change(Generic[Result]):
    """What a change comes to. Until ``base`` is put in place nothing has been written."""

    base: MemoryState
    """To be the state before anything is written: without the checkpoints that gave way."""
    after: MemoryState
    """To be the state when everything is."""
    result: Result
    write: Callable[[], None]
    """Copies what moves inside of memory."""
    used_bytes: list[int]
    """What each cache has in use until it is done."""


class Changes:
    """Drafts the changes of one memory."""

    def __init__(
        self,
        table: SequenceTable,
        caches: Sequence[Cache],
        kv_bytes: int,
        checkpoint_bytes: int,
        exports: Exports,
    ) -> None:
        """``exports``: have checkpoints that others may not take the place of."""
        self.kv_bytes = kv_bytes
        self.checkpoint_bytes = checkpoint_bytes
        self._table = table
        self._caches = caches
        self._exports = exports
        self._touched = [0] * len(caches)
        """Bytes of each cache that the system may have had to find memory for."""

    def begin(self, held: MemoryState, end: int = 0) -> Transaction:
        """A transaction on ``held`` with room for positions below ``end``."""
        return Transaction(
            self._table,
            self._caches,
            held,
            end=end,
            checkpoint_bytes=self.checkpoint_bytes,
            kept=self._exports,
        )

    def draft(
        self, held: MemoryState, change: Callable[[Transaction], Result], end: int = 0
    ) -> Change[Result]:
        """What ``change`` makes of a transaction on ``held`` with room for positions below ``end``.

        Where memory runs out, checkpoints that nobody asked for are given up first. Raises
        CapacityError when that does not help. What this memory holds is not changed.
        """
        base = held
        while True:
            transaction = self.begin(base, end)
            try:
                result = change(transaction)
                after, used = transaction.seal(), transaction.used_bytes
                self._check(sum(used))
                return Change(base, after, result, transaction.write, used)
            except CapacityError:
                fewer = self.begin(base)
                if not fewer.drop_automatic_checkpoints():
                    raise
                base = fewer.seal()

    def make_room(self, change: Change[Result]) -> None:
        """Before it is written: give memory back to the system if more were in use otherwise."""
        touched = list(map(max, self._touched, change.used_bytes))
        if sum(touched) > self.kv_bytes:  # one cache has grown, and another has shrunk
            self.trim(change.base, change.after)
            touched = change.used_bytes
        self._touched = touched

    def trim(self, *states: MemoryState) -> None:
        """Give memory that none of the states needs back to the system."""
        for n, cache in enumerate(self._caches):
            cache.trim([(state.sequences, state.caches[n]) for state in states])
        self._touched = self.begin(states[0]).used_bytes

    def _check(self, needed: int) -> None:
        if needed > self.kv_bytes:
            raise CapacityError(
                f"{format_bytes(needed)} of keys, values and states are needed, and kv_bytes"
                f" allows {format_bytes(self.kv_bytes)}",
                hint="remove sequences, choose a smaller kv_type, or allow more by kv_bytes",
            )
