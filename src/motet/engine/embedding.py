"""Vectors of texts, of which the engine's thread computes a slice between its other steps."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from motet.arrays import Float32
from motet.batch import Batch
from motet.context import Context
from motet.engine.load import Totals
from motet.engine.pace import STEP_SECONDS, Pace
from motet.engine.request import as_motet_error, end_late, hand_out
from motet.errors import CapacityError, MotetError, NumericalError
from motet.runnable import Encodes

AT_ONCE = 64
"""Texts in a slice."""


@dataclass(frozen=True)
class Slice:
    """What a step gave a call: the vectors of the texts that are done."""

    tokens: int
    """Of the call's texts, computed in this step."""
    places: Sequence[int]
    """``[n]``: which of the call's texts are done."""
    vectors: Sequence[Float32]
    """``[n]``: of each of these, what ``Output.pooled`` has."""


VectorSink = Callable[[Slice | MotetError], object]
"""Takes what a request gives, as a ``request.Sink`` does."""


@dataclass(eq=False)
class VectorRequest:
    """Texts of which a call wants vectors. Whoever made it may set ``cancelled`` at any time."""

    pooling: str
    texts: Sequence[Sequence[int]]
    """Token ids, of none too few or too many for the model."""
    sink: VectorSink
    deadline: float = math.inf
    cancelled: bool = False
    left: list[int] = field(init=False)
    """Places of the texts that nobody has begun, the longest one last: it is the next."""

    def __post_init__(self) -> None:
        self.left = sorted(range(len(self.texts)), key=lambda place: len(self.texts[place]))

    @property
    def tokens(self) -> int:
        """Of all texts."""
        return sum(map(len, self.texts))


@dataclass
class _Part:
    """Of a text, the tokens from ``start`` to ``end``, in a sequence of the context."""

    request: VectorRequest
    place: int
    seq: int
    start: int
    end: int

    @property
    def ids(self) -> Sequence[int]:
        return self.request.texts[self.place][self.start : self.end]

    @property
    def ends(self) -> bool:
        return self.end == len(self.request.texts[self.place])


class Embedder:
    """Computes what calls ask for: a slice of whole texts, from each call in turn, in each step.

    Each pooling has a context of its own, made when it is first asked for. A decoder's text that is
    longer than a slice takes several of them, with the texts of others beside it; there is one such
    text at a time, so that memory holds one at most between two steps.
    """

    def __init__(self, make: Callable[[str], Context], step_seconds: float = STEP_SECONDS) -> None:
        """``make``: gives a context of a pooling. ``step_seconds``: see ``LLM``."""
        self._make = make
        self._seconds = step_seconds
        self._arrived: deque[VectorRequest] = deque()
        self._lanes: dict[str, _Lane] = {}

    def add(self, request: VectorRequest) -> None:
        """Take a request, in any thread."""
        self._arrived.append(request)

    @property
    def requests(self) -> list[VectorRequest]:
        """All that are not done."""
        return [*self._arrived, *(r for lane in self._lanes.values() for r in lane.requests)]

    @property
    def count(self) -> int:
        """How many are not done, in any thread."""
        return len(self._arrived) + sum(len(lane.requests) for lane in list(self._lanes.values()))

    @property
    def busy(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self._arrived) or any(lane.requests for lane in self._lanes.values())

    def trim(self) -> None:
        """Give memory that no text needs back to the system."""
        for lane in self._lanes.values():
            lane.trim()

    def step(self, totals: Totals, writing: int = 0) -> None:
        """Compute a slice of each pooling, hand out what is done, and add it up.

        ``writing``: answers that wait meanwhile; beside any a slice is as short as their steps.
        """
        while self._arrived:
            request = self._arrived.popleft()
            try:
                if request.pooling not in self._lanes:
                    self._lanes[request.pooling] = _Lane(
                        self._make(request.pooling), Pace(self._seconds)
                    )
                self._lanes[request.pooling].requests.append(request)
            except Exception as error:
                hand_out(request, as_motet_error(error))
        for lane in self._lanes.values():
            lane.step(totals, writing)


class _Lane:
    """The requests of one pooling, and their context."""

    def __init__(self, context: Context, pace: Pace) -> None:
        self._pace = pace
        self.requests: deque[VectorRequest] = deque()
        self._context = context
        self._encodes = isinstance(context.model.family, Encodes)
        self._begun: _Part | None = None
        """The text that memory holds a part of: what was computed of it last."""

    def trim(self) -> None:
        """See ``Embedder``."""
        self._context.memory.trim()

    def step(self, totals: Totals, writing: int) -> None:
        """Compute a slice, without the calls that turn out to be impossible."""
        totals.timed_out += end_late(self.requests)
        self._drop_cancelled()
        parts = list(self._slice(self._pace.room(writing, self._context.ubatch)))
        while parts:
            began = time.perf_counter()
            try:
                vectors = self._computed(parts)
            except (CapacityError, NumericalError) as error:
                self._fail(_guilty(parts, error), error)
            except Exception as error:
                self._fail(parts, error)
            else:
                tokens = sum(part.end - part.start for part in parts)
                totals.vector_tokens += tokens
                totals.vector_steps += 1
                self._pace.learn(0, tokens, time.perf_counter() - began)
                self._hand_out(parts, vectors)
                break
            parts = [part for part in parts if part.request in self.requests]
        self.requests.rotate(-1)

    def _slice(self, size: int) -> Iterator[_Part]:
        """What is computed next, ``size`` tokens: more of the text that was begun, and beside it
        texts of each call.

        A long text gets half of the slice at least, so that neither it nor others wait for long. An
        encoder's is never cut: it may be longer than the slice, and is then alone in it.
        """
        begun, kept, end, room = self._begun, 0, 0, size
        if begun is not None:
            end = len(begun.request.texts[begun.place])
            kept = min(end - begun.end, max(size // 2, 1))
            room -= kept
        free = deque(range(self._context.max_sequences))
        if begun is not None:
            free.remove(begun.seq)
        may_cut = not self._encodes and (begun is None or begun.end + kept == end)
        waiting = deque(request for request in self.requests if request.left)
        while waiting and free and room > 0:
            request = waiting.popleft()
            place = request.left[-1]
            length = len(request.texts[place])
            if length > room and may_cut:
                length, may_cut = room, False
            elif length > room and not (self._encodes and room == size):
                continue
            request.left.pop()
            room -= length
            yield _Part(request, place, free.popleft(), 0, length)
            if request.left:
                waiting.append(request)
        if begun is not None:
            start = begun.end
            stop = min(end, start + room + kept)
            yield _Part(begun.request, begun.place, begun.seq, start, stop)

    def _computed(self, parts: list[_Part]) -> dict[int, Float32]:
        """The vectors of the parts' sequences. Raises what the context does."""
        batch = Batch()
        for part in parts:
            batch.extend(part.ids, part.start, seqs=part.seq, logits="none")
        context = self._context
        return (context.encode(batch) if self._encodes else context.decode(batch)).pooled

    def _hand_out(self, parts: list[_Part], vectors: dict[int, Float32]) -> None:
        """Give calls the vectors of the texts that are done, and free their sequences."""
        of_call: dict[VectorRequest, list[_Part]] = {}
        for part in parts:
            of_call.setdefault(part.request, []).append(part)
            if part.ends and not self._encodes:
                self._context.memory.remove(part.seq)
        self._begun = next((part for part in parts if not part.ends), None)
        for request, of_it in of_call.items():
            done = [part for part in of_it if part.ends]
            tokens = sum(part.end - part.start for part in of_it)
            found = [vectors[part.seq] for part in done]
            hand_out(request, Slice(tokens, [part.place for part in done], found))
            if not request.left and (self._begun is None or self._begun.request is not request):
                self.requests.remove(request)

    def _fail(self, parts: Sequence[_Part], error: Exception) -> None:
        for part in parts:
            hand_out(part.request, as_motet_error(error))
            part.request.cancelled = True
        self._drop_cancelled()

    def _drop_cancelled(self) -> None:
        """Forget the calls that nobody waits for, and what memory holds of their texts."""
        if self._begun is not None and self._begun.request.cancelled:
            self._context.memory.remove(self._begun.seq)
            self._begun = None
        self.requests = deque(request for request in self.requests if not request.cancelled)


def _guilty(parts: list[_Part], error: CapacityError | NumericalError) -> list[_Part]:
    """Those that an error is about: of the entries that it names, or the longest one."""
    if isinstance(error, NumericalError) and error.entries:
        ends = np.cumsum([part.end - part.start for part in parts])
        return [parts[i] for i in np.unique(np.searchsorted(ends, error.entries, side="right"))]
    return [max(parts, key=lambda part: part.end)]
