"""The caller's end of a call: an iterator over what the engine hands out."""

from collections.abc import Iterator, Sequence
from queue import SimpleQueue

from motet.engine.completion import Chunk
from motet.engine.engine import Engine
from motet.engine.request import Request
from motet.errors import MotetError


class Answers:
    """The answers to one call's requests, while they come."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.unfinished = sum(request.options.n for request in requests)
        """Answers of which more may come."""
        self._requests = requests

    def take(self, output: Chunk | MotetError) -> Chunk:
        """The next chunk. Raises the error that ended a request, and cancels the others."""
        if isinstance(output, MotetError):
            self.cancel()
            raise output
        if output.completion:
            self.unfinished -= 1
        return output

    @property
    def prompt_progress(self) -> float:
        """Share of the prompts' tokens that are computed, 0 to 1."""
        tokens = sum(len(request.prompt) for request in self._requests)
        return sum(request.prefilled for request in self._requests) / max(tokens, 1)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts."""
        return sum(len(request.asked) for request in self._requests)

    @property
    def cached_tokens(self) -> int:
        """Those of them that needn't be computed, as far as requests were admitted."""
        return sum(request.reused for request in self._requests)

    def cancel(self) -> None:
        """Let the engine drop what is not finished."""
        self.unfinished = 0
        for request in self._requests:
            request.cancelled = True


class Stream(Iterator[Chunk]):
    """The chunks of one call's answers, in the order they come; ends when all answers have.

    Closing it, leaving its ``with`` block or dropping it cancels what is not finished. Iterating
    raises the MotetError that ended a request, and cancels the call's other requests.
    """

    def __init__(
        self,
        engine: Engine,
        requests: list[Request],
        outputs: SimpleQueue[Chunk | MotetError | None],
        owner: object,
    ) -> None:
        """``outputs``: filled by the sinks of the requests, and with None when this is closed.
        ``owner`` is kept alive with this."""
        self._engine = engine
        self._answers = Answers(requests)
        self._outputs = outputs
        self._owner = owner
        engine.submit(requests)

    def __next__(self) -> Chunk:
        self._engine.require_process()
        output = self._outputs.get() if self._answers.unfinished else None
        if output is None:
            raise StopIteration
        return self._answers.take(output)

    @property
    def prompt_progress(self) -> float:
        """Share of the prompts' tokens that are computed, 0 to 1."""
        return self._answers.prompt_progress

    def close(self) -> None:
        """Cancel what is not finished; iterating ends, in whatever thread."""
        self._answers.cancel()
        self._outputs.put(None)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<motet.Stream: {self._answers.unfinished} answers to come>"
