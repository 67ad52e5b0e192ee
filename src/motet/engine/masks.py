"""What grammars allow next, computed while the model computes its step."""

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

from motet.engine.scheduler import Span
from motet.grammar import MaskComputer, Matcher
from motet.machine import usable_cores


class Masks:
    """Computes the masks of the answers in a batch, on threads of its own.

    What fails, or was not computed here, is computed where the mask is used, so that an error is
    its own request's: this changes when masks are computed, and nothing else.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._computer: MaskComputer | None = None

    @contextmanager
    def beside(self, spans: Sequence[Span]) -> Generator[None]:
        """Compute the masks that ``spans`` lack while the block runs, those after each proposed
        token too; they are there at its end."""
        lacking = [
            answer.matcher
            for span in spans
            for answer in (span.answer.request.answers if span.is_prefill else (span.answer,))
            if answer.matcher and not answer.matcher.ready
        ]
        ahead = [
            (span.answer.matcher, span.proposed)
            for span in spans
            if span.answer.matcher and span.proposed
        ]
        if not lacking and not ahead:
            yield
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "motet-masks")
        work = self._thread.submit(self._compute, lacking, ahead)
        try:
            yield
        finally:
            wait([work])

    def close(self) -> None:
        """End the threads."""
        if self._thread is not None:
            self._thread.shutdown()

    def _compute(self, lacking: list[Matcher], ahead: list[tuple[Matcher, Sequence[int]]]) -> None:
        if self._computer is None:
            self._computer = MaskComputer(usable_cores())
        self._computer.compute(lacking)
        for matcher, proposed in ahead:
            self._computer.compute_ahead(matcher, proposed)
