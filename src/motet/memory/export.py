"""What is being saved: it has to stay where it lies until it has been read."""

from dataclasses import dataclass
from weakref import WeakSet

from motet.arrays import Int64
from motet.memory.checkpoints import Checkpoint
from motet.memory.saved import Saved


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
