"""Prompts go on from what was said before: how far, from which sequence, and with the same bits."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.errors import MotetError
from motet.llm import LLM
from tests.llm.making import free_sequences, make
from tests.scripted import BOS, ByteTokenizer, ScriptedModel, noise, saying

BOTH = pytest.mark.parametrize("recurrent", [False, True], ids=["anywhere", "checkpoints"])
LONG = "The beginning that all of them have in common. "
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]?{% endif %}"
)


@pytest.fixture
def forgetful():
    """Memory that goes back to checkpoints only."""
    with make(ScriptedModel(recurrent=True), max_sequences=4, ubatch=8) as llm:
        yield llm


def cached(llm: LLM, prompt, **options) -> int:
    options.setdefault("max_tokens", 4)
    return llm.generate(prompt, seed=0, **options).usage.cached_tokens


def computed(llm: LLM) -> int:
    """Tokens computed since the last look."""
    batches = llm.model.made.batches  # type: ignore[attr-defined]
    count = sum(map(len, batches))
    batches.clear()
    return count


@BOTH
def test_the_same_prompt_again_computes_its_last_token_alone(recurrent):
    with make(ScriptedModel(recurrent=recurrent), max_sequences=2) as llm:
        first = llm.generate(LONG, max_tokens=1, seed=0, logprobs=3)
        assert first.usage.cached_tokens == 0
        assert computed(llm) == len(LONG) + 1
        again = llm.generate(LONG, max_tokens=1, seed=0, logprobs=3)
        assert again.usage.cached_tokens == len(LONG)
        assert computed(llm) == 1
        assert (again.tokens, again.logprobs) == (first.tokens, first.logprobs)
        assert again.timings.computed_tokens == 1


@BOTH
def test_a_conversation_goes_on_from_its_end(recurrent):
    model = ScriptedModel(saying("Yes."), ByteTokenizer(TEMPLATE), recurrent=recurrent)
    with make(model, max_sequences=2) as llm:
        messages = [{"role": "user", "content": "Is it?"}]
        first = llm.chat(messages)
        messages += [
            {"role": "assistant", "content": first.text},
            {"role": "user", "content": "Sure?"},
        ]
        second = llm.chat(messages)
        prompt = BOS, *b"[user]Is it?[assistant]?"
        # The template has no "?" before the answer, so the prompts part where it was asked for.
        assert second.usage.cached_tokens == len(prompt) - 1
        assert second.text == "Yes."


@BOTH
def test_plain_text_goes_on_from_its_very_end(recurrent):
    with make(ScriptedModel(recurrent=recurrent), max_sequences=1) as llm:
        first = llm.generate(LONG, max_tokens=9, seed=0)
        ids = [BOS, *LONG.encode(), *first.tokens]
        assert cached(llm, [*ids, *b" and then"]) == len(ids) - 1  # the last was never computed


def test_another_prompt_goes_on_from_the_common_beginning(llm):
    assert cached(llm, LONG + "One") == 0
    assert cached(llm, LONG + "Two") == len(LONG) + 1
    assert cached(llm, "Else") == 1  # that every prompt begins so


def test_without_it_every_prompt_is_computed():
    with make(ScriptedModel(), max_sequences=2, prefix_reuse=False) as llm:
        assert [cached(llm, LONG) for _ in range(3)] == [0, 0, 0]
        assert not any(llm.model.made.memory.held)  # type: ignore[attr-defined]


def test_a_running_sequence_lends_what_it_has(llm):
    stream = llm.generate(LONG, max_tokens=60, seed=1, stream=True)
    next(stream)
    assert cached(llm, LONG + "!") == len(LONG) + 1
    rest = next(chunk.completion for chunk in stream if chunk.completion)
    assert rest.tokens == llm.generate(LONG, max_tokens=60, seed=1).tokens


def test_prompts_of_one_call_share_what_the_first_has_computed(llm):
    """A prompt finds what prompts before it have computed in earlier steps."""
    answers = llm.generate([f"{LONG}{i}" for i in range(8)], max_tokens=1, seed=0)
    assert [answer.usage.cached_tokens > 30 for answer in answers[1:]] == [True] * 7


@BOTH
def test_several_answers_from_a_reused_prompt(recurrent):
    with make(ScriptedModel(recurrent=recurrent), max_sequences=3) as llm:
        alone = [llm.generate(LONG, max_tokens=6, seed=seed).tokens for seed in (0, 1, 2)]
        answers = llm.generate(LONG, n=3, max_tokens=6, seed=0)
        assert [answer.tokens for answer in answers] == alone
        assert {answer.usage.cached_tokens for answer in answers} == {len(LONG)}
        assert free_sequences(llm) == 3
        assert cached(llm, LONG) == len(LONG)


def test_a_scored_prompt_is_computed_as_a_whole(llm, caplog):
    caplog.set_level(logging.INFO, "motet")
    scored = llm.generate(LONG, echo=True, logprobs=1, max_tokens=2, seed=0)
    again = llm.generate(LONG, echo=True, logprobs=1, max_tokens=2, seed=0)
    assert again.usage.cached_tokens == 0
    assert again.prompt_logprobs == scored.prompt_logprobs
    assert "scored from all its rows" in caplog.text
    assert cached(llm, LONG) == len(LONG)


def test_a_cancelled_answer_is_remembered_and_a_failed_one_is_not(llm):
    stream = llm.generate(LONG, stream=True)
    next(stream)
    stream.close()
    assert cached(llm, LONG) == len(LONG)
    llm.model.made.fail = ValueError("broken")
    with pytest.raises(MotetError, match="broken"):
        llm.generate("Something else")
    assert free_sequences(llm) == 4
    assert cached(llm, LONG) == len(LONG)
    assert cached(llm, "Something else") == 1


def test_the_least_recently_used_conversation_is_given_up_first():
    with make(ScriptedModel(), max_sequences=2) as llm:
        for prompt in ("a" * 40, "b" * 40, "a" * 41, "c" * 40):
            cached(llm, prompt)
        assert cached(llm, "a" * 40) == 40
        assert cached(llm, "b" * 40) == 1


def test_a_conversation_is_not_lost_to_another_with_the_same_beginning():
    with make(ScriptedModel(), max_sequences=3) as llm:
        for end in ("x", "y"):
            cached(llm, LONG + 30 * end)
        for end in ("x", "y"):
            assert cached(llm, LONG + 30 * end) == len(LONG) + 30


def test_why_a_prompt_is_computed_again_is_logged(llm, forgetful, caplog):
    caplog.set_level(logging.DEBUG, "motet")
    cached(llm, [*b"abc"])
    assert "0 of 3 prompt tokens reused: no sequence begins so" in caplog.text
    cached(llm, [*b"abcd"])
    cached(llm, [*b"abX"])
    assert "2 of 3 prompt tokens reused: the common prefix ends at 2" in caplog.text
    caplog.clear()
    cached(forgetful, [*b"abcdef"])
    cached(forgetful, [*b"abc"])
    assert "0 of 3 prompt tokens reused: the common prefix ends at 2, no checkpoint" in caplog.text
    cached(forgetful, [*b"abcdeXY"])
    assert "the common prefix ends at 5" in caplog.text
    forgetful.model.made.memory.budget = 0
    cached(forgetful, [*b"xyz"])
    assert "no checkpoint at token 2: no room" in caplog.text


def test_where_prompts_part_a_checkpoint_is_made(forgetful):
    assert cached(forgetful, LONG + "One") == 0
    assert cached(forgetful, LONG + "Two") == 0  # finds out how far they go together
    assert cached(forgetful, LONG + "Three") == len(LONG) + 1


def test_checkpoints_that_a_caller_asks_for(forgetful):
    cached(forgetful, LONG + "One", checkpoints=[len(LONG) + 1, 3, 1000])
    assert cached(forgetful, LONG + "Two") == len(LONG) + 1
    assert cached(forgetful, LONG[:2] + "Two") == 3


def test_a_chat_remembers_its_system_message_and_where_its_last_message_begins():
    model = ScriptedModel(noise, ByteTokenizer(TEMPLATE), recurrent=True)
    with make(model, max_sequences=4) as llm:
        system = {"role": "system", "content": "Be brief."}
        turns = [("user", "One?"), ("assistant", "Yes."), ("user", "Two?")]
        messages = [system, *({"role": role, "content": text} for role, text in turns)]

        def reused(messages) -> int:
            return llm.chat(messages, max_tokens=2, seed=0).usage.cached_tokens

        assert reused(messages) == 0
        other = [*messages[:-1], {"role": "user", "content": "Too?"}]
        assert reused(other) == len(b"[system]Be brief.[user]One?[assistant]Yes.[user]") + 1
        begun_anew = [system, {"role": "user", "content": "1"}]
        assert reused(begun_anew) == len(b"[system]Be brief.[user]") + 1


def test_a_template_that_refuses_an_empty_message_is_no_harm():
    template = "{% for m in messages %}{{ m.content or raise_exception('empty') }}{% endfor %}"
    with make(ScriptedModel(noise, ByteTokenizer(template), recurrent=True)) as llm:
        messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
        assert len(llm.chat(messages, max_tokens=2, seed=0).tokens) == 2


def test_without_room_for_checkpoints_everything_is_computed():
    with make(ScriptedModel(recurrent=True), max_sequences=2) as llm:
        llm.model.made.memory.budget = 0  # type: ignore[attr-defined]
        first = llm.generate(LONG, max_tokens=4, seed=0)
        again = llm.generate(LONG, max_tokens=4, seed=0)
        assert (again.tokens, again.usage.cached_tokens) == (first.tokens, 0)


@BOTH
@given(
    prompts=st.lists(st.text("ab", max_size=24), min_size=1, max_size=12),
    max_sequences=st.integers(1, 4),
    ubatch=st.integers(1, 30),
    count=st.integers(1, 2),
)
def test_the_answers_are_those_of_an_llm_that_computes_everything(
    recurrent, prompts, max_sequences, ubatch, count
):
    n = min(count, max_sequences)
    model, plain_model = ScriptedModel(recurrent=recurrent), ScriptedModel()
    with (
        make(model, max_sequences=max_sequences, ubatch=ubatch) as reusing,
        make(plain_model, max_sequences=max_sequences, prefix_reuse=False) as plain,
    ):
        for some in (prompts[::2], prompts[1::2], prompts):
            answers = reusing.generate(some, n=n, max_tokens=5, seed=3)
            expected = plain.generate(some, n=n, max_tokens=5, seed=3)
            assert [answer.tokens for answer in answers] == [answer.tokens for answer in expected]
        assert free_sequences(reusing) == max_sequences
