"""Prompts that begin alike, and come at once: what they share is computed by the first of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from motet.arrays import common_prefix
from motet.engine.request import Request
from motet.engine.sequences import Sequences
from motet.memory import Memory

GAIN = 16
"""Waiting for a prefix, or a checkpoint at its end, has to save so many tokens."""


@dataclass(frozen=True)
class _Prefix:
    """The first ``end`` tokens of a request that runs, with which another's prompt begins."""

    request: Request
    end: int


class Sharing:
    """Says which requests wait until another one has computed what their prompts begin with."""

    def __init__(self, memory: Memory, sequences: Sequences) -> None:
        self._memory = memory
        self._sequences = sequences
        self._found = WeakKeyDictionary[Request, _Prefix]()
        """What requests wait for."""

    def waits(self, request: Request, running: Sequence[Request]) -> bool:
        """Whether one of those that run is about to compute what ``request`` can go on from."""
        found = self._found.get(request)
        if found is not None and found.request in running and found.request.prefilled < found.end:
            return True
        found = self._search(request, running)
        if found is None:
            self._found.pop(request, None)
        else:
            self._found[request] = found
        return found is not None

    def _search(self, request: Request, running: Sequence[Request]) -> _Prefix | None:
        """The prefix that saves most; it is made sure that memory can go back to its end."""
        best, most = None, GAIN
        for other in running:
            if other.prefilled == len(other.prompt):
                continue
            end = common_prefix(request.ids[:-1], other.ids)
            if end - other.prefilled >= most:
                best, most = _Prefix(other, end), end - other.prefilled
        if best is None or self._sequences.reusable(request.ids) > best.end - GAIN:
            return None
        if not self._memory.rewinds_anywhere:
            best.request.checkpoints.add(best.end)
        return best
