"""What may wait, for how long, and what an engine says of it."""

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from motet.engine.pace import LEAST, Pace
from motet.errors import BusyError, CapacityError, TimedOut
from motet.llm import LLM
from tests.llm.making import finished, free_sequences, make
from tests.scripted import ScriptedConfig, ScriptedContext, ScriptedModel


def context_of(llm: LLM) -> ScriptedContext:
    return llm.model.made  # type: ignore[attr-defined]


@pytest.fixture
def llm() -> Iterator[LLM]:
    with make(ScriptedModel(), max_sequences=2, max_waiting=1) as made:
        yield made
        context_of(made).gate.set()


def held_back(llm: LLM, text: str = "a", **options):
    """A stream whose first batch is being decoded, until the gate is opened."""
    context_of(llm).gate.clear()
    stream = llm.generate(text, max_tokens=5, stream=True, **options)
    assert context_of(llm).entered.wait(10)
    return stream


def test_more_than_may_wait_is_refused(llm: LLM):
    first = held_back(llm)
    others = [llm.generate("b", max_tokens=5, stream=True) for _ in range(2)]
    with pytest.raises(BusyError, match="3 answers run or wait, and 3 may") as caught:
        llm.generate("c", max_tokens=5)
    assert 1 <= caught.value.retry_after <= 600
    with pytest.raises(CapacityError, match="4 answers in one call, and no more than 3"):
        llm.generate(["c", "d"], n=2, max_tokens=5)
    others[1].close()  # which makes room at once
    last = llm.generate("c", max_tokens=5, stream=True)
    context_of(llm).gate.set()
    assert [len(finished(stream).tokens) for stream in (first, others[0], last)] == [5, 5, 5]
    for _ in range(50):  # whoever has an answer finds room for the next request
        llm.generate(["a", "b", "c"], max_tokens=1)
    assert llm.load().total.refused == 1


def test_requests_end_when_their_time_is_over(llm: LLM):
    writing = held_back(llm, timeout=60)
    waiting = llm.generate("b", n=2, max_tokens=5, timeout=60, stream=True)
    for stream in (writing, waiting):
        (request,) = stream._answers._requests
        assert 0 < request.deadline - time.perf_counter() <= 60
        request.deadline = time.perf_counter()
    context_of(llm).gate.set()
    assert next(writing).tokens  # the step that was under way still gave one
    for stream in (writing, waiting):
        with pytest.raises(TimedOut, match="not done in time"):
            list(stream)
    assert free_sequences(llm) == 2
    assert len(context_of(llm).batches) == 1
    assert llm.load().total.timed_out == 2
    assert len(llm.generate("b", max_tokens=5, timeout=60).tokens) == 5


def test_time_is_over_also_for_those_who_wait_for_what_is_being_saved(llm: LLM):
    context_of(llm).memory.being_exported = {0, 1}
    with pytest.raises(TimedOut):
        llm.generate("a", max_tokens=5, timeout=0.05)
    context_of(llm).memory.being_exported = set()


def test_a_cancelled_request_leaves_within_a_step(llm: LLM):
    stream = held_back(llm)
    waiting = llm.generate("b", n=2, max_tokens=5, stream=True)
    waiting.close()
    stream.close()
    context_of(llm).gate.set()
    assert free_sequences(llm) == 2
    assert len(context_of(llm).batches) == 1
    now = llm.load()
    assert (now.running, now.waiting, now.sequences_used, now.sequences) == (0, 0, 0, 2)


def test_load_says_what_is_done_and_what_was(llm: LLM):
    stream = held_back(llm)
    llm.generate("b", n=2, max_tokens=1, stream=True)
    now = llm.load()  # beside a step
    assert (now.running, now.waiting, now.sequences_used) == (1, 1, 1)
    context_of(llm).gate.set()
    finished(stream)
    llm.generate("a", max_tokens=1)
    total = llm.load().total
    assert total.cached_tokens == 1
    assert total.prefix_queries >= 4
    assert total.steps == len(context_of(llm).batches)
    assert total.busy_sequences == sum(len({s for s, _ in b}) for b in context_of(llm).batches)
    assert total.generated_tokens >= 6
    assert total.prompt_tokens >= 3
    assert total.prompt_seconds > 0
    assert total.generation_seconds > 0


@pytest.mark.parametrize("held_up", [0.0, 3.0])
def test_a_long_prompt_does_not_stop_those_who_write(monkeypatch, held_up: float):
    """On a clock of its own: a step takes 0.05 seconds, and 0.01 for each token of a prompt."""
    now, steps = [0.0], []
    monkeypatch.setattr("motet.engine.stepping.time", SimpleNamespace(perf_counter=lambda: now[0]))
    model = ScriptedModel(config=ScriptedConfig(context_length=2000))
    with make(model, max_sequences=3, ubatch=512) as llm:
        context, decode = context_of(llm), context_of(llm).decode

        def timed(batch):
            rows = int(batch.entries().wanted.sum())
            seconds = 0.05 + 0.01 * (len(batch) - rows) + held_up * (len(steps) % 10 == 9)
            now[0] += seconds
            steps.append((len(batch), seconds))
            return decode(batch)

        context.decode = timed
        llm.generate("x" * 40, max_tokens=1)
        writing = llm.generate("a", max_tokens=400, stream=True)
        for _ in range(20):
            next(writing)
        before = len(steps)
        prompt = llm.generate("b" * 1500, max_tokens=1, stream=True)
        finished(prompt)
        usual = [seconds for _, seconds in steps[before + 10 :] if seconds < 3]
        assert max(usual) <= 0.27
        assert len(steps) - before < 1.5 * 1500 / 20  # and the prompt has all that is left
        writing.close()


def test_prompts_share_of_a_step_follows_from_how_fast_steps_were():
    pace = Pace(0.25)
    assert pace.room(0, 512) == 512
    assert pace.room(4, 512) == LEAST  # nothing is known yet
    for _ in range(4):
        pace.learn(4, 0, 0.05)
        pace.learn(4, 100, 1.05)
    assert pace.room(4, 512) == 20  # 0.2 seconds of 0.01 for each token
    pace.learn(4, 0, 60.0)
    pace.learn(4, 100, 60.0)
    assert pace.room(4, 512) == 20  # the system was busy
    assert pace.room(4, 7) == 7
    assert pace.room(0, 512) == 512
    for _ in range(4):
        pace.learn(32, 0, 0.4)
    assert pace.room(32, 512) >= 60  # a step may be 2.5 times as long as one of writing alone
