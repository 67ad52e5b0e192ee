"""The engine without an LLM before it: where outputs go, and what a span's rows become."""

import asyncio
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from motet.engine import Chunk, Completion, Embedder, Engine, GenerationOptions, Request, Sink
from motet.engine.load import Totals
from motet.engine.pace import Pace
from motet.engine.scheduler import Scheduler
from motet.errors import MotetError
from motet.sampling import Sampler, Sampling
from tests.scripted import ByteTokenizer, ScriptedContext, ScriptedModel, noise

PROMPT = [*b"abc"]


def make_request(sink: Sink, prompt: list[int] = PROMPT, **options: Any) -> Request:
    chosen = GenerationOptions(max_tokens=6, **options)
    return Request(prompt, Sampling(seed=1), chosen, 6, sink, ByteTokenizer(), stream=True)  # type: ignore[arg-type]


def by_hand(prompt: list[int]) -> tuple[int, ...]:
    sampler, history = Sampler(Sampling(seed=1)), list(prompt)
    for _ in range(6):
        history.append(sampler.sample(noise(history)))
    return tuple(history[len(prompt) :])


def completion_of(outputs: "SimpleQueue[Chunk | MotetError]") -> Completion:
    while True:
        output = outputs.get(timeout=10)
        assert isinstance(output, Chunk)
        if output.completion:
            return output.completion


def no_vectors(pooling: str) -> Any:
    raise NotImplementedError(pooling)


@pytest.fixture
def context() -> ScriptedContext:
    return ScriptedModel().context(max_sequences=3, ubatch=8)


@pytest.fixture
def engine(context: ScriptedContext) -> Iterator[Engine]:
    engine = Engine(context, 128, True, Embedder(no_vectors))  # type: ignore[arg-type]
    yield engine
    engine.close()


def test_outputs_reach_an_event_loop(engine: Engine, context: ScriptedContext):
    """Two requests at once, each read by a coroutine, and one that fails."""

    async def ask(prompt: list[int]) -> tuple[int, ...]:
        loop, outputs = asyncio.get_running_loop(), asyncio.Queue()
        engine.submit(
            [make_request(lambda out: loop.call_soon_threadsafe(outputs.put_nowait, out), prompt)]
        )
        tokens: list[int] = []
        while True:
            output = await asyncio.wait_for(outputs.get(), 10)
            if isinstance(output, MotetError):
                raise output
            tokens += output.tokens
            if output.completion:
                assert output.completion.tokens == tuple(tokens)
                return output.completion.tokens

    async def both() -> list[tuple[int, ...]]:
        return [*await asyncio.gather(ask(PROMPT), ask([*b"xy"]))]

    assert asyncio.run(both()) == [by_hand(PROMPT), by_hand([*b"xy"])]
    context.fail = MotetError("out of paper")
    with pytest.raises(MotetError, match="out of paper"):
        asyncio.run(ask(PROMPT))
    assert asyncio.run(ask(PROMPT)) == by_hand(PROMPT)


@pytest.mark.parametrize("error", [RuntimeError("loop is closed"), asyncio.CancelledError()])
@pytest.mark.parametrize("good_outputs", [0, 3])
@pytest.mark.parametrize("n", [1, 2])
def test_a_sink_that_raises_ends_its_request_alone(
    engine: Engine,
    caplog,
    error: BaseException,
    good_outputs: int,
    n: int,
):
    calls: list[Chunk | MotetError] = []
    others: SimpleQueue[Chunk | MotetError] = SimpleQueue()

    def broken(output: Chunk | MotetError) -> None:
        calls.append(output)
        if len(calls) > good_outputs:
            raise error

    failing = make_request(broken, n=n)
    engine.submit([failing, make_request(others.put, [*b"xy"])])
    assert completion_of(others).tokens == by_hand([*b"xy"])
    assert failing.cancelled
    assert len(calls) == good_outputs + 1  # it is not called again
    assert "its sink raised" in caplog.text
    engine.submit([make_request(others.put, n=3)])  # which needs every sequence
    assert completion_of(others).tokens == by_hand(PROMPT)
    assert engine.held()


def test_a_sink_may_hand_in_the_next_request(engine: Engine):
    outputs: SimpleQueue[Chunk | MotetError] = SimpleQueue()

    def sink(output: Chunk | MotetError) -> None:
        if isinstance(output, Chunk) and output.completion:
            engine.submit([make_request(outputs.put, [*PROMPT, *output.completion.tokens])])

    engine.submit([make_request(sink)])
    assert completion_of(outputs).tokens == by_hand([*PROMPT, *by_hand(PROMPT)])


def test_a_sink_hears_the_end_without_the_engines_lock(context: ScriptedContext):
    """Another thread that the sink waits for may want something of the engine."""
    engine = Engine(context, 128, True, Embedder(no_vectors))  # type: ignore[arg-type]
    refused: list[MotetError] = []

    def another() -> None:
        with pytest.raises(MotetError, match="dead") as caught:
            engine.submit([make_request(print)])
        refused.append(caught.value)

    def sink(output: Chunk | MotetError) -> None:
        if isinstance(output, MotetError):
            thread = threading.Thread(target=another)
            thread.start()
            thread.join(10)

    context.fail = SystemExit("dead")
    engine.submit([make_request(sink)])
    engine._thread.join(20)
    assert len(refused) == 1


def rows_after(history: list[int], tokens: list[int]) -> np.ndarray:
    return np.stack([noise([*history, *tokens[:i]]) for i in range(len(tokens) + 1)])


def test_each_row_of_a_span_chooses_the_next_token():
    """As if they came one by one, with a chunk each; what follows the end is not looked at."""
    expected = list(by_hand(PROMPT))
    chunks: dict[int, list[Chunk | MotetError]] = {}
    answers: dict[int, Completion | None] = {}
    rows = rows_after(PROMPT, expected)
    rows[6] = np.nan  # the seventh: six are asked for
    for size in (1, 2, 7):
        request = make_request(chunks.setdefault(size, []).append, logprobs=2)
        answer = request.answers[0]
        answer.begin()
        for start in range(0, 7, size):
            answer.advance(rows[start : start + size])
        answers[size] = answer.completion
    for size in (1, 2, 7):
        got, one_by_one = answers[size], answers[1]
        assert got is not None and one_by_one is not None
        assert got.tokens == tuple(expected)
        assert (got.text, got.logprobs) == (one_by_one.text, one_by_one.logprobs)
        assert [c.tokens for c in chunks[size]] == [(token,) for token in expected]  # type: ignore[union-attr]


def test_prompts_and_answers_are_spans_of_one_batch(context: ScriptedContext):
    scheduler = Scheduler(context, False, Pace(), Totals())  # type: ignore[arg-type]
    writing, scored = make_request(print, n=2), make_request(print, [*b"pq"], echo=True, logprobs=0)
    long = make_request(print, [*range(20)])

    def compute() -> list[tuple[int, int, list[int], slice, bool]]:
        scheduled = scheduler.schedule()
        logits = context.decode(scheduled.batch).logits  # type: ignore[arg-type]
        assert len(logits) == scheduled.rows
        for span in scheduled.spans:
            if scheduler.computed(span):
                for answer in list(
                    span.answer.request.answers if span.is_prefill else [span.answer]
                ):
                    answer.advance(logits[span.rows][-1:])
        return [
            (span.answer.seq, span.start, list(span.tokens), span.rows, span.is_prefill)
            for span in scheduled.spans
        ]

    scheduler.waiting.extend([writing])
    assert compute() == [(0, 0, PROMPT, slice(0, 1), True)]
    first = [answer.tokens[0] for answer in writing.answers]
    scheduler.waiting.extend([scored, long])
    assert compute() == [
        (0, 3, [first[0]], slice(0, 1), False),
        (1, 3, [first[1]], slice(1, 2), False),
        (2, 0, [*b"pq"], slice(2, 4), True),
    ]
    scheduler.drop(scored, keep=False)
    assert compute()[2:] == [(2, 0, [*range(6)], slice(2, 2), True)]
