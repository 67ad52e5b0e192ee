"""A caller's request, and its answers while they are generated: their text, and when they end."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from motet.arrays import Float32, Int32
from motet.engine.completion import Chunk, Completion, Timings, Usage
from motet.engine.conversations import Kept
from motet.engine.options import GenerationOptions
from motet.engine.reading import AnswerReading, Reading
from motet.errors import MotetError, TimedOut
from motet.grammar import Grammar
from motet.sampling import Sampler, Sampling, StopStrings, TokenLogprob, token_logprob
from motet.tokenizer import IncrementalDecoder, Tokenizer

_log = logging.getLogger("motet")


class NobodyListens(Exception):
    """Raised by a sink whose owner is gone: its request is cancelled without a word."""


class Sink(Protocol):
    """Takes what a request gives: its chunks, or the error that ends it.

    It is called from the engine's thread, which waits meanwhile: it is to hand the output on
    (``queue.put``, ``loop.call_soon_threadsafe``) and to return. A sink that raises cancels its
    request and is not called again.
    """

    def __call__(self, output: Chunk | MotetError, /) -> object: ...


class Asked(Protocol):
    """What a caller asked for: its outputs go to ``sink``, until it is ``cancelled``."""

    cancelled: bool

    @property
    def deadline(self) -> float:
        """When it is too late for it, by ``time.perf_counter``."""
        ...

    @property
    def sink(self) -> Callable[[Any], object]: ...


def hand_out(request: Asked, output: object) -> None:
    """Give the sink an output, unless the request is cancelled; an error cancels it."""
    if request.cancelled:
        return
    if isinstance(output, MotetError):
        request.cancelled = True
    try:
        request.sink(output)
    except NobodyListens:
        request.cancelled = True
    except BaseException:  # asyncio.CancelledError too: it is the caller's, not the engine's
        request.cancelled = True
        _log.exception("a request is cancelled, for its sink raised")


def end_late(requests: Iterable[Asked]) -> int:
    """Cancel those whose time is over, and say so; how many."""
    now = time.perf_counter()
    late = [each for each in requests if each.deadline <= now and not each.cancelled]
    for each in late:
        hand_out(
            each,
            TimedOut("the request was not done in time", hint="allow more by timeout, or ask less"),
        )
        each.cancelled = True
    return len(late)


def deadline_of(timeout: float | None) -> float:
    """When so many seconds from now are over, by ``time.perf_counter``."""
    return math.inf if timeout is None else time.perf_counter() + timeout


def as_motet_error(error: BaseException) -> MotetError:
    """The error as callers meet it."""
    if isinstance(error, MotetError):
        return error
    wrapped = MotetError(f"the engine failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


@dataclass(eq=False)
class Request:
    """One prompt and the answers to it. Whoever made it may set ``cancelled`` at any time."""

    prompt: list[int]
    sampling: Sampling
    options: GenerationOptions
    token_limit: int
    """Tokens that an answer may have in this context."""
    sink: Sink
    tokenizer: Tokenizer | None
    grammar: Grammar | None = None
    """What answers are held to."""
    reading: Reading | None = None
    """Of a chat whose answers may have thoughts or calls."""
    prediction: Sequence[int] = ()
    """Of a text that the answers probably repeat."""
    source: list[int] | None = None
    """Of an encoder-decoder: what is encoded; ``prompt`` is what answers begin with."""
    index: int = 0
    """Place of the first answer among the answers of the caller's call."""
    prompt_text: str = ""
    """What the answers begin with, where the options say ``echo``."""
    stream: bool = False
    """A chunk a token; otherwise one at the end."""

    cancelled: bool = False
    """The sink no longer gets anything; the engine drops the request before its next batch."""
    encoded: bool = False
    """Whether the first answer's sequence has what was encoded."""
    submitted: float = field(default_factory=time.perf_counter)
    admitted: float = 0.0
    prefilled: int = 0
    """Prompt tokens in memory, all in the first answer's sequence."""
    reused: int = 0
    """Those of them that were there before."""
    checkpoints: set[int] = field(default_factory=set[int])
    """Positions in the prompt where the engine makes one."""
    ids: Int32 = field(init=False)
    """The prompt as an array."""
    answers: list["Answer"] = field(init=False)
    """Those still to be finished."""
    prompt_logprobs: list[TokenLogprob | None] = field(default_factory=lambda: [None])

    deadline: float = field(init=False)
    """When it is too late, by ``time.perf_counter``."""

    def __post_init__(self) -> None:
        self.ids = np.asarray(self.prompt, np.int32)
        self.deadline = deadline_of(self.options.timeout)
        self.answers = [Answer(self, number) for number in range(self.options.n)]

    def admit(self, sequences: list[int], reused: int) -> None:
        """Give each answer a memory sequence; the first holds so many prompt tokens already."""
        self.prefilled = reused
        if not self.started:
            self.admitted, self.reused = time.perf_counter(), reused
        for answer, seq in zip(self.answers, sequences, strict=True):
            answer.seq = seq

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return self.deadline <= time.perf_counter()

    @property
    def to_compute(self) -> int:
        """Tokens that its answers wait for: of the prompt, or their own after a preemption."""
        if self.prefilled < len(self.prompt):
            encoded = 0 if self.source is None or self.encoded else len(self.source)
            return encoded + len(self.prompt) - self.prefilled
        return sum(len(a.pending) for a in self.answers if len(a.pending) > 1)

    @property
    def unfinished(self) -> int:
        """Answers that somebody waits for; known in every thread at any time."""
        return 0 if self.cancelled else sum(a.completion is None for a in list(self.answers))

    @property
    def kept(self) -> Kept | None:
        """The conversation that the answer is in."""
        conversation = self.options.goes_on_in
        return None if conversation is None else conversation.kept

    @property
    def slot(self) -> int | None:
        """The sequence that the answer is to be in, where the caller said so."""
        return self.options.slot

    @property
    def own_sequence(self) -> int | None:
        """The one sequence that it can be in; None for any."""
        return self.slot if self.kept is None else self.kept.seq

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it; known in every thread at any time."""
        return self.cancelled or all(answer.completion for answer in list(self.answers))

    @property
    def asked(self) -> list[int]:
        """The tokens that the caller gave."""
        return self.prompt if self.source is None else self.source

    @property
    def started(self) -> bool:
        """Whether any answer has a token."""
        return any(answer.tokens for answer in self.answers)

    def preempt(self) -> None:
        """Wait again, for its sequences are taken from it; what they held is computed anew."""
        self.prefilled, self.encoded = 0, False
        if not self.started:
            self.prompt_logprobs = [None]
        for answer in self.answers:
            answer.seq, answer.held = -1, 0

    def score(self, logits: Float32, start: int) -> None:
        """Note how probable the prompt tokens after position ``start`` are; a row a position."""
        assert self.options.logprobs is not None
        for row, token in zip(logits, self.prompt[start + 1 :], strict=False):
            self.prompt_logprobs.append(token_logprob(row, token, self.options.logprobs))

    def emit(self, output: Chunk | MotetError) -> None:
        """Give the sink an output, unless the request is cancelled."""
        hand_out(self, output)


class Answer:
    """The ``number``-th answer to a request; ``seq`` is its memory sequence once it has one."""

    def __init__(self, request: Request, number: int) -> None:
        self.request = request
        self.index = request.index + number
        self.seq = -1
        self.held = 0
        """Tokens of the prompt and of the answer that are in memory."""
        self.tokens: list[int] = []
        self.matcher = request.grammar and request.grammar.matcher()
        """Where the answer stands in its grammar; a preemption leaves it as it is."""
        self.completion: Completion | None = None
        self._sampler = Sampler(_numbered(request.sampling, number), request.prompt)
        self._decoder = request.tokenizer and IncrementalDecoder(
            request.tokenizer, request.prompt[-1], spaces_count=request.grammar is not None
        )
        self._stops = StopStrings(request.options.stop_strings)
        self._reading: AnswerReading | None = None
        if request.reading and request.tokenizer:
            reader = request.reading.reader(self._sampler.seed, request.prompt)
            self._reading = AnswerReading(reader, request.tokenizer, self._stops)
        self._text = [request.prompt_text]
        self._logprobs: list[TokenLogprob] = []
        self._first_token = 0.0

    @property
    def pending(self) -> list[int]:
        """Tokens chosen that are not in memory: the last one, or more after a preemption."""
        return self.tokens[self.held - len(self.request.prompt) :]

    def begin(self) -> None:
        """The prompt is in memory: hand out its echo."""
        self._first_token = time.perf_counter()
        if self.request.token_limit == 0:
            self._finish("length")
        if self.request.prompt_text or self.completion:
            self._emit(self._text[0], ())

    def advance(self, logits: Float32) -> None:
        """Choose a token from each row of logits [n, n_vocab], and hand out what it adds.

        The rows follow each other in the sequence. Those after the answer's end are not looked at.
        """
        for row in logits:
            if self.completion:
                return
            self._choose(row)

    def _choose(self, logits: Float32) -> None:
        """The next token, from a row [n_vocab]."""
        request, tokenizer = self.request, self.request.tokenizer
        token = self._sampler.sample(logits, self.matcher and self.matcher.mask())
        self.tokens.append(token)
        if request.options.logprobs is not None:
            self._logprobs.append(token_logprob(logits, token, request.options.logprobs))
        ended = tokenizer is not None and token in tokenizer.eog
        complete = False
        if self.matcher:
            ended &= self.matcher.take(token)
            complete = self.matcher.complete
        full = len(self.tokens) == request.token_limit
        text = "" if ended else self._decode(token)
        if ended or complete or full:
            text += self._flush(cut=not (ended or complete))
        self._text.append(text)
        if ended or complete or self._stops.found is not None:
            self._finish("stop")
        elif full:
            self._finish("length")
        self._emit(text, (token,))

    def _decode(self, token: int) -> str:
        text = self._decoder.push(token) if self._decoder else ""
        return self._reading.push(token, text) if self._reading else self._stops.push(text)

    def _flush(self, cut: bool) -> str:
        """The text held back, now that nothing follows it. ``cut``: for no more was allowed."""
        rest = self._decoder.flush() if self._decoder else ""
        if self._reading:
            return self._reading.flush(rest, cut)
        return self._stops.push(rest) + self._stops.flush()

    def _finish(self, reason: str) -> None:
        request, options, reading = self.request, self.request.options, self._reading
        if reading and reading.tool_calls and reason == "stop" and self._stops.found is None:
            reason = "tool_calls"
        self.completion = Completion(
            text="".join(self._text),
            tokens=tuple(self.tokens),
            finish_reason=reason,
            index=self.index,
            seed=self._sampler.seed,
            usage=Usage(
                len(request.asked),
                len(self.tokens),
                request.reused,
                reading.reasoning_tokens if reading else 0,
            ),
            timings=Timings(
                waiting=request.admitted - request.submitted,
                time_to_first_token=self._first_token - request.submitted,
                total=time.perf_counter() - request.submitted,
                computed_tokens=len(request.asked) - request.reused,
                completion_tokens=len(self.tokens),
            ),
            logprobs=None if options.logprobs is None else tuple(self._logprobs),
            prompt_logprobs=tuple(request.prompt_logprobs) if options.scores_prompt else None,
            stop=self._stops.found,
            reasoning=reading and reading.reasoning,
            tool_calls=reading.tool_calls if reading else (),
        )

    def _emit(self, text: str, tokens: tuple[int, ...]) -> None:
        if not (self.request.stream or self.completion):
            return
        logprobs = tuple(self._logprobs[-1:]) if tokens and self._logprobs else None
        chunk = Chunk(self.index, text, tokens, logprobs, self.completion)
        if self._reading:
            reasoning, calls = self._reading.take()
            chunk = replace(chunk, reasoning=reasoning, tool_calls=calls)
        self.request.emit(chunk)


def _numbered(sampling: Sampling, number: int) -> Sampling:
    """The options of the ``number``-th answer, whose seed gives it again on its own."""
    if sampling.seed is None or number == 0:
        return sampling
    return replace(sampling, seed=sampling.seed + number)
