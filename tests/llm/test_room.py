"""Short of memory: the prefix cache goes first, then requests wait, and answers stay the same."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.batch import Batch
from motet.cli.demo import shipped_model
from motet.errors import CapacityError
from motet.llm import LLM
from motet.model import Model
from tests.llm.making import make
from tests.scripted import ScriptedMemory, ScriptedModel

PROMPTS = ["a" * 20, "bc" * 10, "def" * 7, "ghij" * 5]


def memory_of(llm: LLM) -> ScriptedMemory:
    return llm.model.made.memory  # type: ignore[attr-defined]


def test_idle_prefixes_are_given_up_oldest_first() -> None:
    with make(ScriptedModel(), max_sequences=4) as llm:
        for prompt in PROMPTS[:3]:
            llm.generate(prompt, max_tokens=5)
        memory_of(llm).room = 80
        again = llm.generate(PROMPTS[1] + "more", max_tokens=20)
        assert again.usage.cached_tokens >= 20
        kept = {bytes(memory_of(llm).tokens(seq)[1:2].tolist()) for seq in range(4)}
        assert b"a" not in kept and b"b" in kept


@given(
    recurrent=st.booleans(),
    room=st.integers(50, 200),
    ubatch=st.sampled_from([1, 7, 64]),
    calls=st.lists(
        st.tuples(st.sampled_from(PROMPTS), st.integers(1, 3), st.integers(1, 25), st.booleans()),
        min_size=2,
        max_size=5,
    ),
)
def test_requests_wait_and_answers_are_the_same(recurrent, room, ubatch, calls) -> None:
    """n answers of up to so many tokens, some with the prompt scored."""

    def ask(llm: LLM) -> list[Any]:
        streams = [
            llm.generate(
                prompt, n=n, max_tokens=count, seed=1, echo=scored, logprobs=2, stream=True
            )
            for prompt, n, count, scored in calls
        ]
        got = []
        for stream in streams:
            done = [chunk.completion for chunk in stream if chunk.completion]
            got.append([(c.index, c.tokens, c.text, c.logprobs, c.prompt_logprobs) for c in done])
        return [sorted(each) for each in got]

    with make(ScriptedModel(recurrent=recurrent), max_sequences=6, ubatch=ubatch) as llm:
        expected = ask(llm)
    with make(ScriptedModel(recurrent=recurrent), max_sequences=6, ubatch=ubatch) as llm:
        memory_of(llm).room = max(room, max(n * (21 + count) for _, n, count, _ in calls))
        assert ask(llm) == expected


def test_who_cannot_be_helped_hears_of_it_and_others_go_on() -> None:
    with make(ScriptedModel(), max_sequences=2) as llm:
        memory_of(llm).room = 40
        with pytest.raises(CapacityError, match="room for 40"):
            llm.generate(PROMPTS[0], max_tokens=50)
        assert len(llm.generate(PROMPTS[0], max_tokens=10).tokens) == 10


@pytest.mark.parametrize("name", ["motet-tiny", "motet-tiny-mamba", "motet-tiny-jamba"])
def test_real_memories_keep_to_their_bytes(name: str) -> None:
    model = Model.load(shipped_model().with_name(f"{name}.gguf"), 1)
    prompts = ["Once upon a time", "The little dog", "One day, Lily and her mother", "Tom had a"]
    with LLM(model, max_sequences=4) as llm:
        expected = [a.tokens for a in llm.generate(prompts, max_tokens=100, seed=1)]
    alone = model.context(checkpoint_bytes=0)
    batch = Batch()
    batch.extend([3] * 128, 0)
    alone.decode(batch)
    kv_bytes = 5 * alone.memory.used_bytes // 2  # a decode needs the old state beside the new one
    with LLM(model, max_sequences=4, kv_bytes=kv_bytes) as llm:
        assert [a.tokens for a in llm.generate(prompts, max_tokens=100, seed=1)] == expected


def test_checkpoints_of_running_requests_give_way() -> None:
    """The engine's own, which only serve later prompts: what they take is not the last word."""
    model = Model.load(shipped_model().with_name("motet-tiny-jamba.gguf"), 1)
    assert model.tokenizer is not None
    common = [3] * 17
    prompts = [[*common, *range(5 + n, 25 + 3 * n)] for n in range(8)]

    def ask(llm: LLM) -> list[Any]:
        return [(a.tokens, a.text) for a in llm.generate(prompts, max_tokens=60, seed=1)]

    with LLM(model, max_sequences=8) as llm:
        expected = ask(llm)
    tight: Any = {"kv_bytes": 184_000, "checkpoint_bytes": 262_144}
    with LLM(model, max_sequences=8, **tight) as llm:
        assert ask(llm) == expected
