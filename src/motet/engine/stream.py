"""The caller's end of a request: an iterator over what the engine hands out."""

from collections.abc import Iterator
from queue import SimpleQueue

from motet.engine.completion import Chunk
from motet.engine.engine import Engine
from motet.engine.request import Request
from motet.errors import MotetError


class Stream(Iterator[Chunk]):
    """The chunks of one call's answers, in the order they come; ends when all answers have.

    Closing it, leaving its ``with`` block or dropping it cancels what is not finished. Iterating
    raises the MotetError that ended a request, and cancels the call's other requests.
    """

    def __init__(
        self,
        engine: Engine,
        requests: list[Request],
        outputs: SimpleQueue[Chunk | MotetError],
        owner: object,
    ) -> None:
        """``outputs``: filled by the sinks of the requests. ``owner`` is kept alive with this."""
        self._engine = engine
        self._requests = requests
        self._outputs = outputs
        self._owner = owner
        self._unfinished = sum(request.options.n for request in requests)
        engine.submit(requests)

    def __next__(self) -> Chunk:
        if not self._unfinished:
            raise StopIteration
        self._engine.require_process()
        output = self._outputs.get()
        if isinstance(output, MotetError):
            self.close()
            raise output
        if output.completion:
            self._unfinished -= 1
        return output

    @property
    def prompt_progress(self) -> float:
        """Share of the prompts' tokens that are computed, 0 to 1."""
        tokens = sum(len(request.prompt) for request in self._requests)
        return sum(request.prefilled for request in self._requests) / max(tokens, 1)

    def close(self) -> None:
        """Cancel what is not finished; iterating ends."""
        self._unfinished = 0
        for request in self._requests:
            request.cancelled = True

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
