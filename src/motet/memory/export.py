"""What is being saved: it has to stay where it lies until it has been read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from motet.arrays import Int64
from motet.memory.cache import Cache
from motet.memory.checkpoints import Checkpoint, Checkpoints
from motet.memory.saved import Saved
from motet.memory.sequence_table import SequenceState, SequenceTable


@dataclass(eq=False)
class Export:
    """What sequences hold, and where its rows lie, until it is closed or dropped.

    So long no other checkpoint takes the place of its own. Its sequences have to be left as they
    are meanwhile, or ``exclusive()`` be held; others may change.
    """

    saved: Saved
    slots: tuple[Int64, ...]
    """For each cache, of each row."""
    checkpoints: frozenset[Checkpoint]
    closed: bool = False

    @classmethod
    def of(
        cls,
        table: SequenceTable,
        sequences: SequenceState,
        caches: Sequence[tuple[Cache, Any]],
        checkpoints: Checkpoints,
        seqs: list[int],
    ) -> "Export":
        """Of ``seqs``. ``caches``: each with its state."""
        asked, marks = checkpoints.export(seqs)
        tokens, slots = table.export(sequences, seqs)
        exported = [
            cache.export(
                state,
                table,
                sequences,
                seqs,
                slots,
                [(seq, checkpoint.holds[n]) for seq, checkpoint in asked],
            )
            for n, (cache, state) in enumerate(caches)
        ]
        return cls(
            Saved(tokens, tuple(each.rows for each in exported), marks, len(asked)),
            tuple(each.slots for each in exported),
            frozenset(checkpoint for _, checkpoint in asked),
        )

    def close(self) -> None:
        """Nothing of it is read any more."""
        self.closed = True

    def __enter__(self) -> "Export":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Exports:
    """Those that are not closed. Whoever closes or drops one needs no lock."""

    def __init__(self) -> None:
        self._all = WeakSet[Export]()

    def add(self, export: Export) -> None:
        """Note it, and forget those that are closed."""
        self._all = WeakSet(self._open())
        self._all.add(export)

    @property
    def sequences(self) -> set[int]:
        """All that are being read."""
        return {seq for export in self._open() for seq in export.saved.sequences.numbers.tolist()}

    @property
    def checkpoints(self) -> set[Checkpoint]:
        """All that are being read."""
        return {checkpoint for export in self._open() for checkpoint in export.checkpoints}

    def _open(self) -> list[Export]:
        return [export for export in self._all if not export.closed]
