"""What the kinds of memory have in common, so that Memory changes all of them or none."""

from typing import Any, Protocol

import numpy as np

from motet.memory.saved import Filled, Saved
from motet.memory.writes import Writes


class PartView(Protocol):
    """One kind of memory as one micro-batch sees it."""

    def begin(self) -> None:
        """Do what has to be done before the micro-batch is computed."""
        ...

    def layer(self, index: int) -> Any:
        """What layer ``index`` reads and writes."""
        ...


class Draft(Protocol):
    """A private copy of one kind of memory's bookkeeping.

    It is changed freely and then sealed into the next state, or dropped; until then nothing
    that the present state holds is written over.
    """

    def reachable(self, seq: int, position: int) -> int:
        """The greatest position up to ``position`` that ``seq`` can be cut back to exactly."""
        ...

    def hold(self, seq: int) -> Any:
        """Refer to all that ``seq``, which is not empty, would lack if it came back here later."""
        ...

    def let_go(self, hold: Any) -> None:
        """Refer to it no more."""
        ...

    def hold_bytes(self, hold: Any) -> int:
        """What it keeps in memory, were it alone."""
        ...

    @property
    def held_bytes(self) -> int:
        """What all of them keep."""
        ...

    def cut(self, seq: int, position: int, hold: Any | None) -> None:
        """Forget ``position`` and all that follows.

        ``hold``: what was held when ``seq`` ended there; None where ``position`` is reachable
        without, or nothing is left.
        """
        ...

    def fork(self, source: int, target: int, position: int, hold: Any | None) -> None:
        """Give ``target``, which is empty, all that ``source`` holds before ``position``.

        ``hold``: as for ``cut``; None also where ``source`` ends there.
        """
        ...

    def adopt(self, leader: int, member: int) -> None:
        """Let ``member``, whose past equals ``leader``'s, go on with the memory of ``leader``."""
        ...

    def advance(self, writes: Writes) -> PartView:
        """Make room for a micro-batch that comes after those advanced by before."""
        ...

    def fill(self, seqs: np.ndarray, saved: Saved) -> Filled:
        """Give ``seqs`` (int64), which hold nothing, what was saved. Raises CapacityError."""
        ...

    def seal(self) -> Any:
        """The state as it has become; not changed any more."""
        ...


class Part(Protocol):
    """One kind of memory: the arrays that layers write, and how their places are kept."""

    layers: frozenset[int]
    """Layers that are served."""

    def empty(self) -> Any:
        """The state in which nothing is held."""
        ...

    def draft(self, state: Any, end: int) -> Draft:
        """A draft of ``state`` with room for positions below ``end``."""
        ...
