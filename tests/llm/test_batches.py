"""Requests of several callers share batches, and each gets what it would alone."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from motet.engine import Completion
from motet.sampling import Sampler, Sampling
from tests.llm.making import finished, free_sequences, make
from tests.scripted import BOS, ScriptedModel, noise


def test_the_same_seed_gives_the_same_text_at_any_batch_composition(llm):
    prompts = ["one", "two", "three", "a much longer prompt that takes several steps", "x", "y"]
    alone = [llm.generate(prompt, max_tokens=12, seed=3) for prompt in prompts]
    together = llm.generate(prompts, max_tokens=12, seed=3)
    assert [c.tokens for c in together] == [c.tokens for c in alone]
    assert [c.index for c in together] == list(range(6))
    assert len({c.tokens for c in alone}) == 6
    assert llm.generate("one", max_tokens=12, seed=4).tokens != alone[0].tokens


@settings(max_examples=25, deadline=None)
@given(
    prompts=st.lists(st.text("abc", max_size=30), min_size=1, max_size=9),
    max_sequences=st.integers(1, 5),
    ubatch=st.integers(1, 40),
    split_calls=st.booleans(),
)
def test_any_schedule_gives_the_same_answers(prompts, max_sequences, ubatch, split_calls):
    model = ScriptedModel()
    with make(model, max_sequences=max_sequences, ubatch=ubatch) as llm:
        if split_calls:
            streams = [llm.generate(p, max_tokens=6, seed=2, stream=True) for p in prompts]
            answers = [finished(stream).tokens for stream in streams]
        else:
            answers = [c.tokens for c in llm.generate(prompts, max_tokens=6, seed=2)]
        assert free_sequences(llm) == max_sequences
    for prompt, answer in zip(prompts, answers, strict=True):
        sampler, history = Sampler(Sampling(seed=2), prompt=()), [BOS, *prompt.encode()]
        for token in answer:
            assert sampler.sample(noise(history)) == token
            history.append(token)
        assert len(answer) == 6


def test_several_answers_share_the_prompts_computation(llm):
    answers = llm.generate("a prompt", n=3, max_tokens=4, seed=0)
    assert len({answer.tokens for answer in answers}) == 3
    computed = sum(len(batch) for batch in llm.model.made.batches)
    assert computed == len(b"a prompt") + 1 + 3 * 3
    pairs = llm.generate(["a", "b"], n=2, max_tokens=4, seed=0)
    assert [c.index for c in pairs] == [0, 1, 2, 3]
    assert [c.tokens for c in pairs[2:]] == [
        llm.generate("b", max_tokens=4, seed=s).tokens for s in (0, 1)
    ]
    assert free_sequences(llm) == 4


def test_concurrent_callers_share_batches(llm):
    alone = [llm.generate(f"prompt {i}", max_tokens=20, seed=i).tokens for i in range(12)]
    llm.model.made.batches.clear()
    llm.model.made.gate.clear()
    got: dict[int, Completion] = {}

    def ask(i: int) -> None:
        got[i] = llm.generate(f"prompt {i}", max_tokens=20, seed=i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    llm.model.made.gate.set()
    for thread in threads:
        thread.join(20)
    assert [got[i].tokens for i in range(12)] == alone
    assert max(len({seq for seq, _ in batch}) for batch in llm.model.made.batches) == 4
    assert free_sequences(llm) == 4


def test_prompts_are_computed_in_pieces_beside_the_answers_of_others(llm):
    """A long prompt that comes while an answer is written doesn't stop the answer."""
    llm.model.made.gate.clear()  # both are there before anything is computed
    stream = llm.generate("a", max_tokens=50, stream=True)
    other = llm.generate("p" * 60, max_tokens=1, stream=True)
    llm.model.made.gate.set()
    list(other)
    stream.close()
    mixed = [batch for batch in llm.model.made.batches if len({seq for seq, _ in batch}) == 2]
    assert len(mixed) >= 60 // 8
    assert all(len(batch) <= 8 for batch in llm.model.made.batches)


def test_on_a_real_model_every_bit_is_the_same_in_company(tiny):
    """The log probabilities of answers that share batches equal those of the same ones alone."""
    prompts = [f"One day {name} went to the park" + " and" * i for i, name in enumerate("ABCDEFG")]
    asked = {"max_tokens": 25, "logprobs": 3, "echo": True, "seed": 8}
    together = tiny.generate(prompts, **asked)
    for prompt, answer in zip(prompts, together, strict=True):
        alone = tiny.generate(prompt, **asked)
        assert alone.text == answer.text
        assert alone.logprobs == answer.logprobs
        assert alone.prompt_logprobs == answer.prompt_logprobs
    forked = tiny.generate(prompts[0], n=4, **asked)
    assert forked[0].logprobs == together[0].logprobs
    assert forked[3].logprobs == tiny.generate(prompts[0], **asked | {"seed": 11}).logprobs
