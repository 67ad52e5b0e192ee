"""AsyncLLM: what is awaited is what an LLM gives, and what is cancelled is gone."""

import asyncio
import gc
import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import motet
from motet.cli.demo import shipped_model
from motet.errors import CapacityError, MotetError, NumericalError, OptionError, TokenizerError
from tests.llm.making import free_sequences, make
from tests.llm.test_generate import TEMPLATE
from tests.scripted import ByteTokenizer, ScriptedContext, ScriptedModel, noise

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def both() -> Iterator[tuple[motet.AsyncLLM, motet.LLM]]:
    model = ScriptedModel(tokenizer=ByteTokenizer(TEMPLATE))
    with make(model, max_sequences=4, ubatch=8) as llm:
        yield motet.AsyncLLM(llm), llm


def scripted(llm: motet.LLM) -> ScriptedContext:
    return llm._engine._context  # type: ignore[return-value]


async def entered(llm: motet.LLM) -> None:
    """Until a decode has begun."""
    assert await asyncio.to_thread(scripted(llm).entered.wait, 10)


def test_answers_are_those_of_the_llm(both):
    front, llm = both

    async def ask() -> None:
        answer = await front.generate("abc", max_tokens=9, seed=1)
        assert answer.tokens == llm.generate("abc", max_tokens=9, seed=1).tokens
        several = await front.generate(["a", "b"], n=2, max_tokens=5, seed=2)
        assert [each.tokens for each in several] == [
            each.tokens for each in llm.generate(["a", "b"], n=2, max_tokens=5, seed=2)
        ]
        said = llm.chat(HI, max_tokens=5, seed=3).tokens
        assert (await front.chat(HI, max_tokens=5, seed=3)).tokens == said
        assert [c.tokens for c in await front.chat([HI, HI], max_tokens=5, seed=3)] == [said] * 2
        assert await front.chat_prompt(HI) == llm.chat_prompt(HI)
        assert await front.generate([]) == []
        chunks = [c async for c in front.generate("abc", max_tokens=9, seed=1, stream=True)]
        assert sum((chunk.tokens for chunk in chunks), ()) == answer.tokens
        assert chunks[-1].completion is not None and chunks[-1].completion.tokens == answer.tokens

    asyncio.run(ask())
    assert (front.model, front.max_tokens, front.tokenizer) == (
        llm.model,
        llm.max_tokens,
        llm.tokenizer,
    )


def test_hundreds_of_tasks_and_a_thread_at_once(both):
    front, llm = both
    prompts = [f"prompt {i % 40}" for i in range(300)]
    expected = {text: llm.generate(text, max_tokens=4, seed=7).tokens for text in set(prompts)}

    async def ask() -> None:
        there = asyncio.to_thread(llm.generate, prompts[:20], max_tokens=4, seed=7)
        tasks = [front.generate(text, max_tokens=4, seed=7) for text in prompts]
        *answers, others = await asyncio.gather(*tasks, there)
        assert [each.tokens for each in answers] == [expected[text] for text in prompts]
        assert [each.tokens for each in others] == [expected[text] for text in prompts[:20]]

    asyncio.run(ask())
    assert free_sequences(llm) == 4


def test_cancelling_some_of_many_tasks_changes_nothing_for_the_others(both):
    front, llm = both
    random = np.random.default_rng(3)
    prompts = [f"prompt {i % 7}" for i in range(150)]
    expected = {text: llm.generate(text, max_tokens=12, seed=7).tokens for text in set(prompts)}

    async def ask() -> None:
        tasks = [
            asyncio.create_task(front.generate(text, max_tokens=12, seed=7)) for text in prompts
        ]
        loop = asyncio.get_running_loop()
        for task in tasks:
            if random.random() < 0.5:
                loop.call_later(random.uniform(0, 0.3), task.cancel)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for text, answer in zip(prompts, answers, strict=True):
            if not isinstance(answer, asyncio.CancelledError):
                assert not isinstance(answer, BaseException)
                assert answer.tokens == expected[text]

    asyncio.run(ask())
    assert free_sequences(llm) == 4


def test_a_cancelled_task_frees_its_sequences(both):
    front, llm = both
    scripted(llm).gate.clear()

    async def ask() -> None:
        tasks = [
            asyncio.create_task(front.generate("abc")),
            asyncio.create_task(front.generate(["a", "b"], n=2)),
            asyncio.create_task(anext(front.generate("abc", stream=True))),  # type: ignore[arg-type]
        ]
        await entered(llm)
        for task in tasks:
            task.cancel()
        assert await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        scripted(llm).gate.set()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(front.generate("abc", temperature=0), 0)

    asyncio.run(ask())
    assert free_sequences(llm) == 4
    assert sum(len(batch) for batch in scripted(llm).batches) < 40  # of 600, had they gone on


def test_a_task_cancelled_while_its_prompt_is_tokenized_asks_for_nothing(both, monkeypatch):
    front, llm = both
    begun, go = asyncio.Event(), threading.Event()

    async def ask() -> None:
        loop = asyncio.get_running_loop()

        def slow(*arguments: object) -> list[int]:
            loop.call_soon_threadsafe(begun.set)
            go.wait(10)
            return [1, 2]

        monkeypatch.setattr("motet.engine.preparing.encode", slow)
        task = asyncio.create_task(front.generate("abc"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()

    asyncio.run(ask())
    monkeypatch.undo()
    assert free_sequences(llm) == 4
    assert scripted(llm).batches == []


def test_a_stream_that_is_left_closed_or_dropped_frees_its_sequences(both):
    front, llm = both

    async def ask() -> None:
        async with front.generate("abc", stream=True) as left:
            async for _ in left:
                break
        assert [chunk async for chunk in left] == []
        closed = front.generate(["a", "b"], stream=True)
        assert (await anext(closed)).tokens
        assert 0 < closed.prompt_progress <= 1
        closed.close()
        with pytest.raises(StopAsyncIteration):
            await anext(closed)
        unbegun = front.generate("abc", stream=True)
        unbegun.close()
        assert [chunk async for chunk in unbegun] == []
        dropped = front.generate(["a", "b", "c", "d", "e", "f"], stream=True)
        await anext(dropped)
        del dropped
        gc.collect()
        assert await asyncio.to_thread(free_sequences, llm) == 4

    asyncio.run(ask())


def test_closing_a_stream_wakes_the_task_that_waits_for_it(both):
    front, llm = both
    scripted(llm).gate.clear()

    async def ask() -> None:
        stream = front.generate("abc", stream=True)

        async def read() -> int:
            return len([chunk async for chunk in stream])

        waiting = asyncio.create_task(read())
        await entered(llm)
        with pytest.raises(MotetError, match="another task waits"):
            await anext(stream)
        stream.close()
        assert await asyncio.wait_for(waiting, 10) == 0
        scripted(llm).gate.set()

    asyncio.run(ask())
    assert free_sequences(llm) == 4


def test_errors_come_where_they_are_awaited(both):
    front, llm = both

    def rule(history):
        row = noise(history)
        row[3] = float("nan")
        return row

    async def ask() -> None:
        with pytest.raises(OptionError, match=r"AsyncLLM\.generate has no option 'max_token'"):
            await front.generate("abc", max_token=3)  # type: ignore[call-overload]
        with pytest.raises(CapacityError, match="holds 128"):
            await front.generate("x" * 200)
        with pytest.raises(CapacityError, match="holds 128"):
            await anext(front.generate("x" * 200, stream=True))
        with pytest.raises(TokenizerError, match="must be text"):
            await front.chat([{"role": "user"}])
        broken = motet.AsyncLLM(make(ScriptedModel(rule)))
        async with broken:
            with pytest.raises(NumericalError, match="token 3 is nan"):
                await broken.generate("abc")

    asyncio.run(ask())
    assert free_sequences(llm) == 4
    with pytest.raises(OptionError, match=r"llm is 'model.gguf' \(give an LLM"):
        motet.AsyncLLM("model.gguf")  # type: ignore[arg-type]


def test_closing_ends_what_is_awaited():
    front = motet.AsyncLLM(make(ScriptedModel(), max_sequences=1))
    scripted(front.llm).gate.clear()

    async def ask() -> None:
        async with front:
            tasks = [asyncio.create_task(front.generate("abc")) for _ in range(3)]
            await entered(front.llm)
            asyncio.get_running_loop().call_later(0.05, scripted(front.llm).gate.set)
        for task in tasks:
            with pytest.raises(MotetError, match="closed"):
                await task
        with pytest.raises(MotetError, match="closed"):
            await front.generate("abc")
        await front.close()

    asyncio.run(ask())
    assert "closed" in repr(front)


def test_an_event_loop_that_ends_leaves_the_llm_in_order(both, caplog):
    front, llm = both
    streams = []

    async def leave() -> None:
        stream = front.generate("abc", stream=True)
        await anext(stream)
        streams.append(stream)

    asyncio.run(leave())
    assert free_sequences(llm) == 4  # of itself, though the stream is still there
    assert not caplog.records
    assert len(llm.generate("abc", max_tokens=5).tokens) == 5
    assert free_sequences(llm) == 4


def test_the_prefix_cache_is_saved_restored_and_forgotten():
    async def ask() -> None:
        file = io.BytesIO()
        async with motet.AsyncLLM(motet.LLM(shipped_model())) as front:
            await front.generate("Once upon a time", max_tokens=3)
            held = await front.held()
            await front.save(file, {"title": "a story"})
            await front.forget()
            assert await front.held() == [] != held
            file.seek(0)
            assert await front.notes(file) == {"title": "a story"}
            assert await front.restore(file) == {"title": "a story"}
            assert await front.held() == held

    asyncio.run(ask())
