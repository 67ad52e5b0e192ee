"""Conversations on every kind of memory: forked, cut, saved and restored while others go on: bit
for bit what the same prompts give alone."""

import asyncio
import gc
import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import motet
from motet.engine import Completion
from motet.errors import (
    CannotRewind,
    CapacityError,
    ConversationBusy,
    MotetError,
    OptionError,
    StateFileError,
    UnsupportedError,
)
from motet.llm import LLM
from tests.llm.making import free_sequences
from tests.models import tiny
from tests.shared import SHARED, needs_shared

KINDS = ["llama", "gemma3", "deepseek2", "mamba", "mamba2", "rwkv6", "rwkv7", "jamba", "qwen35"]
FULL = ("llama", "deepseek2")
GROWS = (*FULL, "jamba")
PROMPT = [1, 2, 3, 4, 5] * 6


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(kind, tmp_path_factory):
    return tiny.load(tmp_path_factory.mktemp("models"), kind)


@pytest.fixture
def llm(model) -> Iterator[LLM]:
    with LLM(model, max_sequences=24, ubatch=32) as llm:
        yield llm


def ask(llm: LLM, prompt: Sequence[int], conversation: Any = None, **options: Any) -> Completion:
    chosen: dict[str, Any] = {"max_tokens": 8, "seed": 3, "logprobs": 2} | options
    return llm.generate(list(prompt), conversation=conversation, **chosen)


def same(answer: Completion, other: Completion) -> bool:
    return (answer.tokens, answer.logprobs) == (other.tokens, other.logprobs)


@contextmanager
def company(llm: LLM, count: int) -> Iterator[None]:
    """So many others ask all the while."""
    over, failed = threading.Event(), list[BaseException]()

    def talk(number: int) -> None:
        try:
            while not over.is_set():
                ask(llm, [number % 30 + 1, *PROMPT], max_tokens=20, logprobs=None)
        except BaseException as error:
            failed.append(error)

    others = [threading.Thread(target=talk, args=(n,)) for n in range(count)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        over.set()
        for other in others:
            other.join()
    assert not failed


def tour(llm: LLM, alone: LLM, folder, vocabulary: int) -> None:
    """Turns, forks, a save, a restore and a rewind; each answer as ``alone`` gives it."""
    prompt = [token % vocabulary for token in PROMPT]
    conversation = llm.conversation()
    first = ask(llm, prompt, conversation)
    assert same(first, ask(alone, prompt))
    held = [*prompt, *first.tokens[:-1]]
    assert conversation.tokens() == held
    longer = [*prompt, *first.tokens, 7, 8]
    fork = conversation.fork()
    saved = folder / "a.state"
    assert conversation.save(saved, {"title": "é"}) == len(held)
    second = ask(llm, longer, conversation)
    assert same(second, ask(alone, longer))
    assert second.usage.cached_tokens >= len(held)
    assert fork.tokens() == held
    other = [*prompt, *first.tokens, 9]
    assert same(ask(llm, other, fork), ask(alone, other))
    restored, notes = llm.restore_conversation(saved)
    assert (restored.tokens(), notes) == (held, {"title": "é"})
    again = ask(llm, longer, restored)
    assert same(again, second)
    assert again.usage.cached_tokens >= len(held)
    conversation.rewind(len(held))  # where a turn ended
    assert conversation.tokens() == held
    assert same(ask(llm, longer, conversation), second)
    for each in (conversation, fork, restored):
        each.close()


def test_the_solo_law_holds_while_others_go_on(llm, model, tmp_path):
    with LLM(model, max_sequences=1, prefix_reuse=False) as alone, company(llm, 16):
        for _ in range(3):
            tour(llm, alone, tmp_path, tiny.VOCAB)
    llm.forget()
    assert free_sequences(llm) == 24
    assert llm._engine._context.memory.used_bytes == 0


@needs_shared
@pytest.mark.parametrize("name", ["llama", "gemma3", "deepseek2", "mamba2", "rwkv6", "jamba"])
def test_the_solo_law_holds_on_real_families(name, tmp_path):
    model = motet.Model.load(SHARED / "parity" / name / "model.gguf")
    vocabulary = model.config.n_vocab
    with (
        LLM(model, max_sequences=1, prefix_reuse=False) as alone,
        LLM(model, max_sequences=12, ubatch=64) as llm,
        company(llm, 6),
    ):
        tour(llm, alone, tmp_path, vocabulary)


def test_rewinding_is_exact_or_says_where(llm, kind, model):
    with llm.conversation() as conversation, LLM(model, max_sequences=1) as alone:
        assert conversation.state().positions == ((0, 0),)
        ask(llm, PROMPT, conversation)
        end = conversation.length
        for position in (*range(end, -1, -1),):
            state = conversation.state()
            possible = any(low <= position <= high for low, high in state.positions)
            assert possible or kind not in FULL
            try:
                fork = conversation.fork(position)
            except CannotRewind as error:
                assert not possible
                assert error.nearest == max(
                    min(high, position) for low, high in state.positions if low <= position
                )
                with pytest.raises(CannotRewind):
                    conversation.rewind(position)
                assert conversation.state().positions == state.positions
                continue
            assert possible
            assert fork.tokens() == conversation.tokens()[:position]
            prompt = [*fork.tokens(), 11, 12]
            answer = ask(llm, prompt, fork)
            assert answer.usage.cached_tokens == position
            assert same(answer, ask(alone, prompt))
            fork.close()
        with pytest.raises(OptionError, match=f"use 0 to {end}"):
            conversation.rewind(end + 1)
        conversation.rewind(0)
        assert conversation.length == 0
        assert conversation.fork().length == 0


def test_what_is_kept_is_not_evicted(model):
    with LLM(model, max_sequences=3, ubatch=32) as llm:
        a, b = llm.conversation(), llm.conversation()
        for conversation in (a, b):
            ask(llm, PROMPT, conversation)
        with pytest.raises(CapacityError, match="2 conversations are open"):
            llm.conversation()
        with pytest.raises(CapacityError, match="2 conversations are open"):
            a.fork()
        held = a.tokens()
        for number in range(6):
            ask(llm, [number] * 20)
        assert a.tokens() == b.tokens() == held
        with pytest.raises(CapacityError, match="conversations leave 1"):
            ask(llm, PROMPT, n=2)
        b.close()
        b.close()
        assert len(ask(llm, PROMPT, n=2)) == 2  # type: ignore[arg-type]
        with pytest.raises(MotetError, match="is closed"):
            b.state()
        with pytest.raises(MotetError, match="is closed"):
            ask(llm, PROMPT, b)
        del a
        gc.collect()
        assert len(ask(llm, PROMPT, n=3)) == 3  # type: ignore[arg-type]


def test_a_conversation_answers_one_at_a_time(llm):
    with llm.conversation() as conversation:
        stream = llm.generate(PROMPT, conversation=conversation, stream=True, max_tokens=150)
        next(stream)
        for refused in (
            lambda: ask(llm, PROMPT, conversation),
            conversation.fork,
            lambda: conversation.rewind(0),
            lambda: conversation.save(io.BytesIO()),
        ):
            with pytest.raises(ConversationBusy, match="an answer is under way"):
                refused()
        assert conversation.state().busy
        stream.close()
        answer = ask(llm, PROMPT, conversation)  # at once, though the engine has yet to notice
        assert answer.usage.cached_tokens == len(PROMPT) - 1
        assert not conversation.state().busy


def test_many_ask_one_conversation_at_once(llm):
    with llm.conversation() as conversation:
        done, refused = list[Completion](), list[ConversationBusy]()

        def talk() -> None:
            for _ in range(10):
                try:
                    done.append(ask(llm, PROMPT, conversation))
                except ConversationBusy as error:
                    refused.append(error)

        threads = [threading.Thread(target=talk) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) + len(refused) == 80
        assert done
        assert all(same(answer, done[0]) for answer in done)
        assert conversation.length == len(PROMPT) + 7


def test_a_cancelled_answer_leaves_what_was_computed(llm, model):
    with llm.conversation() as conversation, LLM(model, max_sequences=1) as alone:
        with llm.generate(
            PROMPT, conversation=conversation, stream=True, max_tokens=150, seed=3
        ) as stream:
            tokens = [token for _ in range(5) for token in next(stream).tokens]
        held = conversation.tokens()
        whole = alone.generate(PROMPT, max_tokens=150, seed=3)
        assert held == [*PROMPT, *whole.tokens][: len(held)]
        assert len(held) >= len(PROMPT) + len(tokens) - 1
        prompt = [*held, 5]
        assert same(ask(llm, prompt, conversation), ask(alone, prompt))


def test_a_conversation_begins_from_the_prefix_cache(llm):
    ask(llm, PROMPT)
    with llm.conversation() as conversation:
        assert ask(llm, PROMPT, conversation).usage.cached_tokens == len(PROMPT) - 1
    with LLM(llm.model, max_sequences=3, prefix_reuse=False) as plain:
        ask(plain, PROMPT)
        with plain.conversation() as conversation:
            first = ask(plain, PROMPT, conversation)
            assert first.usage.cached_tokens == 0
            second = ask(plain, [*PROMPT, *first.tokens, 4], conversation)
            assert second.usage.cached_tokens == len(PROMPT) + 7


def test_scored_prompts_are_computed_whole(llm, model):
    with llm.conversation() as conversation, LLM(model, max_sequences=1) as alone:
        ask(llm, PROMPT, conversation)
        scored = ask(llm, PROMPT, conversation, echo=True)
        assert scored.prompt_logprobs == ask(alone, PROMPT, echo=True).prompt_logprobs
        assert conversation.length == len(PROMPT) + 7


def test_short_of_bytes_the_request_hears_of_conversations(model, kind):
    """Where conversations have it all, nobody waits for ever."""
    if kind not in GROWS:
        pytest.skip("its memory does not grow with the text")
    with LLM(model, max_sequences=8, ubatch=32, max_tokens=250) as llm:
        conversation = llm.conversation()
        ask(llm, [1] * 200, conversation)
        needed = llm._engine._context.memory.used_bytes
    with LLM(model, max_sequences=8, ubatch=32, max_tokens=250, kv_bytes=needed * 2) as llm:
        kept = [llm.conversation() for _ in range(3)]
        answers = [ask(llm, [1] * 200, kept[0])]
        with pytest.raises(CapacityError, match="which are kept, take"):
            for number, conversation in enumerate(kept[1:]):
                ask(llm, [2 + number] * 200, conversation)
        kept[1].close()
        kept[2].close()
        answers.append(ask(llm, [1] * 200, kept[0]))
        assert same(*answers)


def test_preempted_conversations_go_on(model, kind):
    """Beside other answers, with room for three of the four, and the same bits."""
    if kind not in GROWS:
        pytest.skip("its memory does not grow with the text")
    prompts = [[number, *PROMPT] for number in range(1, 5)]
    with LLM(model, max_sequences=8, ubatch=32, max_tokens=250) as llm:
        expected = [ask(llm, prompt, max_tokens=100) for prompt in prompts]
        llm.forget()
        ask(llm, prompts[0], max_tokens=100)
        needed = llm._engine._context.memory.used_bytes
    with LLM(model, max_sequences=8, ubatch=32, max_tokens=250, kv_bytes=needed * 7 // 2) as llm:
        kept = [llm.conversation(), llm.conversation(), None, None]
        streams = [
            llm.generate(p, conversation=c, stream=True, max_tokens=100, seed=3, logprobs=2)
            for p, c in zip(prompts, kept, strict=True)
        ]
        for stream, answer in zip(streams, expected, strict=True):
            *_, last = stream
            assert last.completion
            assert same(last.completion, answer)
        assert llm.load().total.preemptions


@pytest.mark.parametrize("by", ["path", "object"])
def test_saving_one_that_holds_nothing(llm, tmp_path, by):
    file: Any = tmp_path / "empty" if by == "path" else io.BytesIO()
    assert llm.conversation().save(file, {"a": "b"}) == 0
    if by == "object":
        file.seek(0)
    conversation, notes = llm.restore_conversation(file)
    assert (conversation.length, notes) == (0, {"a": "b"})


def test_files_that_are_refused(llm, tmp_path):
    file = tmp_path / "several"
    for number in range(2):
        ask(llm, [number] * 20)
    llm.save(file)
    with pytest.raises(StateFileError, match="holds 2 sequences, and one is wanted"):
        llm.restore_conversation(file)
    with pytest.raises(StateFileError, match="holds 2 sequences"):
        llm.restore_slot(0, file)
    conversation = llm.conversation()
    ask(llm, PROMPT, conversation)
    conversation.save(file)
    data = bytearray(file.read_bytes())
    for place in (len(data) // 2, len(data) - 3, 20):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(StateFileError):
            llm.restore_conversation(io.BytesIO(damaged))
    with pytest.raises(StateFileError):
        llm.restore_conversation(io.BytesIO(data[:-10]))
    held = len(llm._engine.keeping._open)
    assert held == 1  # and those that failed left nothing


def test_where_a_conversation_can_be_used(llm, model, kind):
    with llm.conversation() as conversation:
        with pytest.raises(OptionError, match="n is 2"):
            ask(llm, PROMPT, conversation, n=2)
        with pytest.raises(OptionError, match="2 prompts"):
            llm.generate([PROMPT, PROMPT], conversation=conversation)
        with pytest.raises(OptionError, match="both given"):
            ask(llm, PROMPT, conversation, slot=0)
        with pytest.raises(OptionError, match="conversation is 3"):
            ask(llm, PROMPT, 3)
        with LLM(model, max_sequences=2) as other:
            with pytest.raises(OptionError, match="another LLM's"):
                ask(other, PROMPT, conversation)
            with pytest.raises(CapacityError, match="1 conversations"):
                _ = [other.conversation(), other.conversation()]
        if kind == "llama":
            with pytest.raises(MotetError, match="conversations are open"):
                llm.self_extend = "auto"
    with LLM(model, max_sequences=1) as single, pytest.raises(CapacityError):
        single.conversation()
    late = llm.conversation()
    llm.close()
    with pytest.raises(MotetError, match="closed"):
        late.state()
    late.close()


def test_an_encoder_decoder_has_none(tmp_path):
    llm = LLM(tiny.load(tmp_path, "t5"), max_sequences=4)
    with llm, pytest.raises(UnsupportedError, match="encoder-decoder"):
        llm.conversation()


def test_from_coroutines(llm, tmp_path):
    async def talk() -> None:
        wrapped = motet.AsyncLLM(llm)
        async with await wrapped.conversation() as conversation:
            first = await wrapped.generate(PROMPT, conversation=conversation, max_tokens=3, seed=1)
            state = await conversation.state()
            assert state.length == len(PROMPT) + 2
            fork = await conversation.fork()
            await conversation.save(tmp_path / "x", {})
            await conversation.rewind(0)
            assert await conversation.tokens() == []
            restored, _ = await wrapped.restore_conversation(tmp_path / "x")
            assert await restored.tokens() == await fork.tokens()
            again = await wrapped.generate(PROMPT, conversation=fork, max_tokens=3, seed=1)
            assert again.tokens == first.tokens
        assert conversation.closed
        (slot, *_) = await wrapped.slots()
        assert slot.number == 0

    asyncio.run(talk())


def test_slots(llm, tmp_path):
    file = tmp_path / "slot"
    first = ask(llm, PROMPT, slot=5)
    assert [(s.number, s.length) for s in llm.slots() if s.length] == [(5, len(PROMPT) + 7)]
    assert llm.save_slot(5, file) == len(PROMPT) + 7
    assert ask(llm, PROMPT, slot=6).usage.cached_tokens == 0  # another slot's is not looked at
    assert same(ask(llm, PROMPT, slot=5), first)
    count, notes = llm.restore_slot(2, file)
    assert (count, notes) == (len(PROMPT) + 7, {})
    longer = [*PROMPT, *first.tokens, 4]
    assert ask(llm, longer, slot=2).usage.cached_tokens == len(PROMPT) + 7
    assert llm.erase_slot(2) > 0
    assert llm.slots()[2].length == 0
    assert ask(llm, PROMPT, slot=2).usage.cached_tokens == 0
    with pytest.raises(OptionError, match="there is no slot 24"):
        ask(llm, PROMPT, slot=24)
    with pytest.raises(OptionError, match="slot is 24"):
        llm.erase_slot(24)


def test_several_answers_of_which_the_first_is_in_a_slot(llm):
    alone = [ask(llm, PROMPT, seed=seed) for seed in (3, 4, 5)]
    llm.forget()
    for cached in (0, len(PROMPT) - 1):
        answers: Any = ask(llm, PROMPT, slot=5, n=3)
        assert all(same(*pair) for pair in zip(answers, alone, strict=True))
        assert answers[0].usage.cached_tokens == cached
        assert llm.slots()[5].length == len(PROMPT) + 7
    with llm.conversation() as conversation, pytest.raises(OptionError, match="n is 2"):
        ask(llm, PROMPT, conversation, n=2)


def test_slots_in_use(llm, tmp_path):
    stream = llm.generate(PROMPT, slot=3, stream=True, max_tokens=150)
    next(stream)
    slot = llm.slots()[3]
    assert slot.busy
    assert slot.answer is not None
    assert slot.answer.prompt_tokens == slot.answer.computed_tokens == len(PROMPT)
    for refused in (llm.erase_slot, lambda n: llm.save_slot(n, tmp_path / "x")):
        with pytest.raises(ConversationBusy):
            refused(3)
    waiting = llm.generate(PROMPT, slot=3, stream=True, max_tokens=3)
    ask(llm, PROMPT)  # goes past the one that waits
    *_, last = stream
    assert last.finish_reason == "length"
    *_, last = waiting
    assert last.completion
    assert last.completion.usage.cached_tokens == len(PROMPT) - 1
    with llm.conversation() as conversation:
        ask(llm, PROMPT, conversation)
        (kept,) = [slot.number for slot in llm.slots() if slot.kept]
        with pytest.raises(CapacityError, match="is a conversation's"):
            ask(llm, PROMPT, slot=kept)
        with pytest.raises(ConversationBusy, match="is a conversation's"):
            llm.erase_slot(kept)
    deadline = time.monotonic() + 10
    while any(slot.kept for slot in llm.slots()):
        assert time.monotonic() < deadline


def test_rows_are_the_same_bits(llm, model, tmp_path):
    """Of what a restored conversation holds, by the logits that follow."""
    conversation = llm.conversation()
    ask(llm, PROMPT, conversation)
    conversation.save(tmp_path / "x")
    context = model.context(max_sequences=2)
    context.restore(tmp_path / "x", into=lambda saved: {saved[0]: 0})
    batch = motet.Batch()
    held = conversation.tokens()
    batch.extend([9], len(held), seqs=0, logits="all")
    batch.extend([*held, 9], 0, seqs=1, logits="last")
    logits = context.decode(batch).logits
    assert np.array_equal(logits[0], logits[1])


def test_a_slot_that_becomes_a_conversations_at_once(tmp_path):
    """Both come between two steps: one is answered, the other refused, and nobody else fails."""
    with LLM(tiny.load(tmp_path, "llama"), max_sequences=3) as llm:
        alone = ask(llm, PROMPT)
        llm.forget()
        with llm.conversation() as conversation:
            options: dict[str, Any] = {"max_tokens": 8, "seed": 3, "logprobs": 2, "stream": True}

            def begin() -> list[motet.Stream]:
                own = llm.generate(PROMPT, conversation=conversation, **options)
                return [own, *(llm.generate(PROMPT, slot=k, **options) for k in range(3))]

            own, *others = llm._engine._between_steps(begin)
            assert same(whole(own), alone)
            (seq,) = (slot.number for slot in llm.slots() if slot.kept)
            for number, other in enumerate(others):
                if number == seq:
                    with pytest.raises(CapacityError, match="is a conversation's"):
                        whole(other)
                else:
                    assert same(whole(other), alone)


def test_one_that_is_cancelled_and_closed_between_two_steps(tmp_path):
    with LLM(tiny.load(tmp_path, "llama"), max_sequences=3) as llm:
        conversation = llm.conversation()
        stream = llm.generate(PROMPT, conversation=conversation, stream=True)
        next(stream)
        llm._engine._between_steps(lambda: (stream.close(), conversation.close()))
        while llm._engine.keeping._open:
            time.sleep(0.005)
        sequences = llm._engine._scheduler.sequences
        assert llm._engine._between_steps(lambda: sorted(sequences._free)) == [0, 1, 2]


def whole(stream: motet.Stream) -> Completion:
    *_, last = stream
    assert last.completion is not None
    return last.completion
