"""Random turns, forks, rewinds and restores of several conversations, on each kind of memory: every
answer is that of an LLM which sees its prompt alone."""

import io
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from motet.engine import Completion, Conversation, Stream
from motet.errors import CannotRewind, CapacityError, ConversationBusy
from motet.llm import LLM
from tests.models import tiny

SEQUENCES = 6
picks = st.integers(0, SEQUENCES - 1)
tokens = st.lists(st.integers(1, tiny.VOCAB - 1), min_size=1, max_size=20)


class Talks(RuleBasedStateMachine):
    """Beside each conversation the tokens that it has to hold."""

    model: ClassVar[Any]
    expected: ClassVar[dict[tuple[int, ...], Any]]
    """What prompts give alone."""
    alone: ClassVar[LLM]

    @initialize(
        ubatch=st.sampled_from([1, 7, 64]),
        checkpoint_bytes=st.sampled_from([None, 0, 20_000]),
        prefix_reuse=st.booleans(),
    )
    def begin(self, ubatch: int, checkpoint_bytes: int | None, prefix_reuse: bool) -> None:
        self.llm = LLM(
            self.model,
            max_sequences=SEQUENCES,
            ubatch=ubatch,
            checkpoint_bytes=checkpoint_bytes,
            prefix_reuse=prefix_reuse,
        )
        self.held: dict[Conversation, list[int]] = {}
        self.saved: list[tuple[bytes, list[int]]] = []

    @rule()
    def create(self) -> None:
        self.note(self.llm.conversation, [])

    @rule(pick=picks, more=tokens)
    def go_on(self, pick: int, more: list[int]) -> None:
        conversation = self.picked(pick)
        self.turn(conversation, [*self.held[conversation], *more])

    @rule(pick=picks, keep=st.integers(0, 60), more=tokens)
    def go_on_otherwise(self, pick: int, keep: int, more: list[int]) -> None:
        conversation = self.picked(pick)
        self.turn(conversation, [*self.held[conversation][:keep], *more])

    @rule(pick=picks, more=tokens, chunks=st.integers(1, 4))
    def break_off(self, pick: int, more: list[int], chunks: int) -> None:
        conversation = self.picked(pick)
        prompt = [*self.held[conversation], *more][:150]
        stream: Stream = self.llm.generate(
            prompt, conversation=conversation, stream=True, max_tokens=150, seed=1
        )
        with stream:
            for _ in range(chunks):
                next(stream)
            with pytest.raises(ConversationBusy):
                conversation.rewind(0)
        held = conversation.tokens()
        assert held[: len(prompt)] == prompt[: len(held)]
        self.held[conversation] = held

    @rule(pick=picks, share=st.none() | st.floats(0, 1))
    def fork(self, pick: int, share: float | None) -> None:
        conversation = self.picked(pick)
        held = self.held[conversation]
        position = None if share is None else int(share * len(held))
        try:
            self.note(lambda: conversation.fork(position), held[:position])
        except CannotRewind as error:
            nearest = error.nearest
            assert not self.reaches(conversation, position)
            assert self.reaches(conversation, nearest)
            self.note(lambda: conversation.fork(nearest), held[:nearest])

    @rule(pick=picks, share=st.floats(0, 1))
    def rewind(self, pick: int, share: float) -> None:
        conversation = self.picked(pick)
        position = int(share * len(self.held[conversation]))
        try:
            conversation.rewind(position)
        except CannotRewind as error:
            assert not self.reaches(conversation, position)
            position = error.nearest
            conversation.rewind(position)
        del self.held[conversation][position:]

    @rule(pick=picks)
    def save(self, pick: int) -> None:
        conversation = self.picked(pick)
        file = io.BytesIO()
        assert conversation.save(file, {"n": "1"}) == len(self.held[conversation])
        self.saved.append((file.getvalue(), list(self.held[conversation])))

    @rule(pick=picks)
    def restore(self, pick: int) -> None:
        for file, held in self.saved[pick : pick + 1]:
            self.note(lambda file=file: self.llm.restore_conversation(io.BytesIO(file))[0], held)

    @rule(pick=picks)
    def close(self, pick: int) -> None:
        conversation = self.picked(pick)
        conversation.close()
        del self.held[conversation]

    @rule(prompt=tokens)
    def others_ask(self, prompt: list[int]) -> None:
        assert self.answer(prompt) == self.answer_alone(prompt)

    @rule(slot=picks, prompt=tokens)
    def ask_a_slot(self, slot: int, prompt: list[int]) -> None:
        if self.llm.slots()[slot].kept:
            with pytest.raises(CapacityError):
                self.answer(prompt, slot=slot)
        else:
            assert self.answer(prompt, slot=slot) == self.answer_alone(prompt)

    @invariant()
    def what_is_held(self) -> None:
        for conversation, held in getattr(self, "held", {}).items():
            assert conversation.tokens() == held

    def teardown(self) -> None:
        if hasattr(self, "llm"):
            for conversation in self.held:
                conversation.close()
            self.llm.forget()
            assert not any(slot.kept or slot.length for slot in self.llm.slots())
            assert self.llm._engine._context.memory.used_bytes == 0
            self.llm.close()

    def turn(self, conversation: Conversation, prompt: list[int]) -> None:
        prompt = prompt[:200]
        assert self.answer(prompt, conversation=conversation) == self.answer_alone(prompt)
        chosen, _ = self.answer_alone(prompt)
        self.held[conversation] = [*prompt, *chosen[:-1]]

    def answer(self, prompt: list[int], **where: Any) -> Any:
        answer: Completion = self.llm.generate(prompt, max_tokens=4, seed=5, logprobs=1, **where)
        return answer.tokens, answer.logprobs

    def answer_alone(self, prompt: list[int]) -> Any:
        if tuple(prompt) not in self.expected:
            answer = self.alone.generate(prompt, max_tokens=4, seed=5, logprobs=1)
            self.expected[tuple(prompt)] = answer.tokens, answer.logprobs
        return self.expected[tuple(prompt)]

    def note(self, make: Callable[[], Conversation], held: list[int]) -> None:
        """A conversation is made, and holds so much, unless there are too many."""
        if len(self.held) == SEQUENCES - 1:
            with pytest.raises(CapacityError, match="are open"):
                make()
        else:
            self.held[make()] = list(held)

    def picked(self, number: int) -> Conversation:
        """One of those that are open, or a new one."""
        if not self.held:
            self.create()
        return list(self.held)[number % len(self.held)]

    def reaches(self, conversation: Conversation, position: int | None) -> bool:
        assert position is not None
        return any(low <= position <= high for low, high in conversation.state().positions)


KINDS = ["llama", "gemma3", "gemma4", "gpt-oss", "mamba", "rwkv6", "rwkv7", "nemotron_h_moe"]
KINDS += ["jamba", "lfm2"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_answer_is_that_of_its_prompt_alone(kind, tmp_path):
    model = tiny.load(tmp_path, kind)
    with LLM(model, max_sequences=1, prefix_reuse=False) as alone:
        machine = type(kind, (Talks,), {"model": model, "expected": {}, "alone": alone})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=8,
                stateful_step_count=25,
                deadline=None,
                derandomize=True,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
