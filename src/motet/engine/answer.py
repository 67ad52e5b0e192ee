"""One answer while it is written: its sampler, its text so far, when it ends."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from motet.engine.completion import Chunk, Completion, Timings, Usage
from motet.sampling import Sampler, Sampling, StopStrings, TokenLogprob, token_logprob
from motet.tokenizer import IncrementalDecoder

if TYPE_CHECKING:
    from motet.engine.request import Request


class Answer:
    """The ``number``-th answer to a request; ``seq`` is its memory sequence once it has one."""

    def __init__(self, request: "Request", number: int) -> None:
        self.request = request
        self.index = request.index + number
        self.seq = -1
        self.tokens: list[int] = []
        self.completion: Completion | None = None
        self._sampler = Sampler(_numbered(request.sampling, number), request.prompt)
        self._decoder = request.tokenizer and IncrementalDecoder(
            request.tokenizer, request.prompt[-1]
        )
        self._stops = StopStrings(request.stop)
        self._text = [request.echo or ""]
        self._logprobs: list[TokenLogprob] = []
        self._first_token = 0.0

    @property
    def position(self) -> int:
        """Where the last token chosen stands in the sequence."""
        return len(self.request.prompt) + len(self.tokens) - 1

    def begin(self, logits: np.ndarray) -> None:
        """The prompt is in memory: hand out its echo and what its last row of logits gives."""
        self._first_token = time.perf_counter()
        if self.request.max_tokens == 0:
            self._finish("length")
        if self.request.echo or self.completion:
            self._emit(self._text[0], ())
        if not self.completion:
            self.advance(logits)

    def advance(self, logits: np.ndarray) -> None:
        """Choose the next token from a row of logits [n_vocab] and hand out what it adds."""
        request, tokenizer = self.request, self.request.tokenizer
        token = self._sampler.sample(logits)
        self.tokens.append(token)
        if request.logprobs is not None:
            self._logprobs.append(token_logprob(logits, token, request.logprobs))
        ended = tokenizer is not None and token in tokenizer.eog
        full = len(self.tokens) == request.max_tokens
        text = "" if ended else self._decode(token)
        if ended or full:
            text += self._flush()
        self._text.append(text)
        if ended or self._stops.found is not None:
            self._finish("stop")
        elif full:
            self._finish("length")
        self._emit(text, (token,))

    def _decode(self, token: int) -> str:
        return self._stops.push(self._decoder.push(token)) if self._decoder else ""

    def _flush(self) -> str:
        """The text held back, now that nothing follows it."""
        rest = self._stops.push(self._decoder.flush()) if self._decoder else ""
        return rest + self._stops.flush()

    def _finish(self, reason: str) -> None:
        request = self.request
        self.completion = Completion(
            text="".join(self._text),
            tokens=tuple(self.tokens),
            finish_reason=reason,
            index=self.index,
            seed=self._sampler.seed,
            usage=Usage(len(request.prompt), len(self.tokens), request.reused),
            timings=Timings(
                waiting=request.admitted - request.submitted,
                time_to_first_token=self._first_token - request.submitted,
                total=time.perf_counter() - request.submitted,
                computed_tokens=len(request.prompt) - request.reused,
                completion_tokens=len(self.tokens),
            ),
            logprobs=None if request.logprobs is None else tuple(self._logprobs),
            prompt_logprobs=tuple(request.prompt_logprobs) if request.scores_prompt else None,
        )

    def _emit(self, text: str, tokens: tuple[int, ...]) -> None:
        if not (self.request.stream or self.completion):
            return
        logprobs = tuple(self._logprobs[-1:]) if tokens and self._logprobs else None
        self.request.outputs.put(Chunk(self.index, text, tokens, logprobs, self.completion))


def _numbered(sampling: Sampling, number: int) -> Sampling:
    """The options of the ``number``-th answer, whose seed gives it again on its own."""
    if sampling.seed is None or number == 0:
        return sampling
    return replace(sampling, seed=sampling.seed + number)
