"""The engine and its front on a scripted model: what is said, who gets it, and what goes wrong."""

import gc
import os
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.cli.demo import shipped_model
from motet.engine import Completion
from motet.errors import (
    CapacityError,
    MotetError,
    NumericalError,
    OptionError,
    TokenizerError,
    UnsupportedError,
)
from motet.llm import LLM
from motet.sampling import Sampler, Sampling
from tests.scripted import BOS, EOS, N_VOCAB, ByteTokenizer, ScriptedModel, noise, saying
from tests.shared import SHARED, needs_shared


def make(model: ScriptedModel, **options: Any) -> LLM:
    return LLM(model, **options)  # type: ignore[arg-type]


@pytest.fixture
def llm():
    with make(ScriptedModel(), max_sequences=4, ubatch=8) as llm:
        yield llm


@pytest.fixture
def parrot():
    with make(ScriptedModel(saying("Yes, it is. Or not.")), max_sequences=2) as llm:
        yield llm


def free_sequences(llm: LLM) -> int:
    """Counted once the engine has nothing to do."""
    deadline = time.monotonic() + 10
    while llm._engine._scheduler.busy and time.monotonic() < deadline:
        time.sleep(0.005)
    return len(llm._engine._scheduler.sequences)


def test_greedy_is_the_rule_followed_by_hand(llm):
    history = [BOS, *b"abc"]
    for _ in range(10):
        history.append(int(np.argmax(noise(history))))
    completion = llm.generate("abc", max_tokens=10, temperature=0)
    assert list(completion.tokens) == history[4:]
    assert completion.finish_reason == "length"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (4, 10)
    assert completion.usage.cached_tokens == 0


def test_an_end_token_ends_the_text_and_is_among_the_tokens(parrot):
    completion = parrot.generate("is it?")
    assert completion.text == "Yes, it is. Or not."
    assert completion.tokens[-1] == EOS
    assert completion.finish_reason == "stop"


def test_a_stop_string_is_not_part_of_the_text(parrot):
    assert parrot.generate("?", stop=". Or").text == "Yes, it is"
    assert parrot.generate("?", stop=["maybe", ","]).text == "Yes"
    assert parrot.generate("?", stop=["not.!"]).text == "Yes, it is. Or not."


def test_streamed_text_holds_back_what_may_become_a_stop_string(parrot):
    chunks = list(parrot.generate("?", stop=["is. Or not!"], stream=True))
    assert "".join(chunk.text for chunk in chunks) == chunks[-1].completion.text
    assert chunks[-1].completion.text == "Yes, it is. Or not."
    held = [chunk.text for chunk in chunks]
    assert held[held.index("is. Or not.") - 1] == ""
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert sum((chunk.tokens for chunk in chunks), ()) == chunks[-1].completion.tokens


def test_half_a_character_is_never_emitted():
    with make(ScriptedModel(saying("añ€🎵"))) as llm:
        texts = [chunk.text for chunk in llm.generate("?", stream=True)]
        assert [text for text in texts if text] == ["a", "ñ", "€", "🎵"]
        assert llm.generate("?", max_tokens=2).text == "a\N{REPLACEMENT CHARACTER}"


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
            answers = [list(stream)[-1].completion.tokens for stream in streams]
        else:
            answers = [c.tokens for c in llm.generate(prompts, max_tokens=6, seed=2)]
        assert free_sequences(llm) == max_sequences
    for prompt, answer in zip(prompts, answers, strict=True):
        sampler, history = Sampler(Sampling(seed=2), prompt=()), [BOS, *prompt.encode()]
        for token in answer:
            assert sampler.sample(noise(history)) == token
            history.append(token)
        assert len(answer) == 6


def test_a_completion_says_the_seed_that_gives_it_again(llm):
    first = llm.generate("abc", max_tokens=12)
    assert llm.generate("abc", max_tokens=12, seed=first.seed).text == first.text
    for answer in llm.generate("abc", max_tokens=12, n=3, seed=7):
        assert llm.generate("abc", max_tokens=12, seed=answer.seed).tokens == answer.tokens


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


def test_timings_are_in_order(llm):
    timings = llm.generate("abc", max_tokens=5).timings
    assert 0 <= timings.waiting <= timings.time_to_first_token <= timings.total
    assert timings.tokens_per_second > 0
    assert timings.prefill_tokens_per_second > 0


def test_max_tokens_ends_at_the_context_at_the_latest(llm):
    limit = llm.model.config.context_length
    assert llm.max_tokens == limit
    for max_tokens in (None, 10_000):
        completion = llm.generate("abc", max_tokens=max_tokens)
        assert completion.finish_reason == "length"
        assert completion.usage.prompt_tokens + completion.usage.completion_tokens == limit
    with make(ScriptedModel(), max_tokens=7) as short:
        assert len(short.generate("abc").tokens) == 3


def test_a_prompt_longer_than_the_context_is_refused_before_any_work(llm):
    stream = llm.generate("abc", max_tokens=100, stream=True, seed=0)
    with pytest.raises(CapacityError, match=r"201 tokens.*holds 128"):
        llm.generate(["fine", "x" * 200])
    with pytest.raises(CapacityError, match="128"):
        llm.generate("x" * 127)
    rest = list(stream)[-1].completion
    assert rest.tokens == llm.generate("abc", max_tokens=100, seed=0).tokens
    assert len(llm.generate("x" * 126).tokens) == 1
    assert free_sequences(llm) == 4


def test_logprobs_of_the_answer(llm):
    completion = llm.generate("abc", max_tokens=4, logprobs=2, temperature=0)
    history = [BOS, *b"abc"]
    for entry, token in zip(completion.logprobs, completion.tokens, strict=True):
        row = noise(history).astype(np.float64)
        expected = row - np.log(np.exp(row).sum())
        assert entry.token == token
        assert entry.logprob == pytest.approx(expected[token])
        assert [t for t, _ in entry.top] == np.argsort(-expected, kind="stable")[:2].tolist()
        history.append(token)
    streamed = list(llm.generate("abc", max_tokens=4, logprobs=2, temperature=0, stream=True))
    assert sum((chunk.logprobs for chunk in streamed), ()) == completion.logprobs
    assert llm.generate("abc", max_tokens=1).logprobs is None


def test_echo_scores_the_prompt(llm):
    text = "a prompt of several micro-batches"
    completion = llm.generate(text, echo=True, logprobs=1, max_tokens=0)
    ids = [BOS, *text.encode()]
    assert completion.text == text
    assert completion.tokens == ()
    assert completion.prompt_logprobs[0] is None
    for i, entry in enumerate(completion.prompt_logprobs[1:], 1):
        row = noise(ids[:i]).astype(np.float64)
        assert entry.logprob == pytest.approx(row[ids[i]] - np.log(np.exp(row).sum()))
    assert len(completion.prompt_logprobs) == len(ids)
    echoed = list(llm.generate("ab", echo=True, max_tokens=2, seed=0, stream=True))
    assert echoed[0].text == "ab"
    plain = llm.generate("ab", max_tokens=2, seed=0).text
    assert "".join(chunk.text for chunk in echoed) == "ab" + plain
    assert llm.generate("ab", logprobs=1, max_tokens=2).prompt_logprobs is None


def test_prompts_as_token_ids(llm):
    text = llm.generate("abc", max_tokens=5, seed=1).tokens
    for ids in ([BOS, *b"abc"], np.array([BOS, *b"abc"]), (BOS, *b"abc")):
        assert llm.generate(ids, max_tokens=5, seed=1).tokens == text
    assert [c.tokens for c in llm.generate([[BOS, *b"abc"], "abc"], max_tokens=5, seed=1)] == (
        [text, text]
    )
    assert llm.generate([]) == []


def test_special_text_in_a_prompt(llm):
    parsed = llm.generate("a<s>b", max_tokens=1)
    assert parsed.usage.prompt_tokens == 4
    assert llm.generate("a<s>b", max_tokens=1, parse_special=False).usage.prompt_tokens == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": 3}, "the prompt is"),
        ({"prompt": ["a", None]}, "the prompt is"),
        ({"prompt": [True, False]}, "the prompt is"),
        ({"prompt": [1, N_VOCAB]}, "token 258 at 1"),
        ({"prompt": [-1]}, "token -1 at 0"),
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"n": 0}, "n is 0"),
        ({"logprobs": -1}, "logprobs is -1"),
        ({"temperature": -1}, "temperature is -1"),
        ({"stop": ["a", ""]}, "stop string"),
        ({"logit_bias": {N_VOCAB: 1.0}}, "token 258"),
        ({"seed": "x"}, "seed is 'x'"),
    ],
)
def test_unusable_options_are_refused(llm, options, message):
    with pytest.raises(OptionError, match=message):
        llm.generate(options.pop("prompt", "abc"), **options)
    assert free_sequences(llm) == 4


def test_more_answers_than_sequences_are_refused(llm):
    with pytest.raises(CapacityError, match=r"5 answers .*there are 4"):
        llm.generate("abc", n=5)


@pytest.mark.parametrize(
    "options", [{"max_sequences": 0}, {"max_tokens": 0}, {"ubatch": 0}, {"ubatch": 1.5}]
)
def test_unusable_options_of_the_llm_are_refused(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        make(ScriptedModel(), **options)


def test_a_closed_stream_frees_its_sequence(llm):
    stream = llm.generate("abc", stream=True)
    assert next(stream).tokens
    stream.close()
    assert list(stream) == []
    assert free_sequences(llm) == 4
    with llm.generate("abc", stream=True) as stream:
        next(stream)
    assert free_sequences(llm) == 4


def test_a_dropped_stream_frees_its_sequence(llm):
    stream = llm.generate(["a", "b", "c", "d", "e", "f"], stream=True)
    next(stream)
    del stream
    gc.collect()
    assert free_sequences(llm) == 4


def test_ctrl_c_in_the_caller_frees_its_sequences(llm, monkeypatch):
    from queue import SimpleQueue

    class Interrupted(SimpleQueue):
        def get(self, *args: Any) -> Any:
            super().get(*args)
            raise KeyboardInterrupt

    monkeypatch.setattr("motet.llm.SimpleQueue", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(["a", "b"], max_tokens=50, stream=False)
    monkeypatch.undo()
    assert free_sequences(llm) == 4


def test_a_failed_batch_reaches_every_caller_in_it_and_the_next_ones_go_on(llm):
    llm.model.made.gate.clear()
    llm.model.made.fail = ZeroDivisionError("broken")
    errors = []

    def ask() -> None:
        try:
            llm.generate("abc", max_tokens=50)
        except MotetError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    streams = [llm.generate("abc", max_tokens=5, seed=1, stream=True)]
    llm.model.made.entered.wait(10)  # the stream's request alone is in the failing batch
    for thread in threads:
        thread.start()
    llm.model.made.gate.set()
    with pytest.raises(MotetError, match="ZeroDivisionError: broken") as caught:
        list(streams[0])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    for thread in threads:
        thread.join(20)
    assert not errors
    assert free_sequences(llm) == 4
    assert llm.generate("abc", max_tokens=5, seed=1).tokens


def test_all_callers_of_a_failed_batch_hear_of_it(llm):
    streams = [llm.generate("abc", stream=True) for _ in range(4)]
    for stream in streams:
        next(stream)
    llm.model.made.fail = CapacityError("full")
    for stream in streams:
        with pytest.raises(CapacityError, match="full"):
            list(stream)
    assert free_sequences(llm) == 4


def test_one_broken_sequence_does_not_harm_the_others():
    def rule(history):
        row = noise(history)
        if history[1] == ord("!"):
            row[3] = np.nan
        return row

    with make(ScriptedModel(rule), max_sequences=3) as llm:
        good = llm.generate("a", max_tokens=40, seed=0, stream=True)
        with pytest.raises(NumericalError, match="token 3 is nan"):
            llm.generate(["b", "!c"], max_tokens=40)
        assert list(good)[-1].completion.usage.completion_tokens == 40
        assert free_sequences(llm) == 3


def test_an_engine_that_dies_tells_everyone_and_takes_nothing_more(llm):
    llm.model.made.gate.clear()
    streams = [llm.generate("abc", stream=True) for _ in range(6)]
    llm.model.made.fail = SystemExit("dead")
    llm.model.made.gate.set()
    for stream in streams:
        with pytest.raises(MotetError, match="SystemExit: dead"):
            list(stream)
    with pytest.raises(MotetError, match="dead"):
        llm.generate("abc")


def test_closing_ends_waiting_callers_and_refuses_new_ones():
    def slow(history):
        time.sleep(0.01)
        return noise(history)

    llm = make(ScriptedModel(slow), max_sequences=1)
    streams = [llm.generate("abc", stream=True) for _ in range(3)]
    next(streams[0])
    llm.close()
    llm.close()
    for stream in streams:
        with pytest.raises(MotetError, match="closed"):
            list(stream)
    with pytest.raises(MotetError, match="closed"):
        llm.generate("abc")


def test_a_dropped_llm_ends_its_thread_but_not_while_a_stream_needs_it():
    llm = make(ScriptedModel())
    thread = llm._engine._thread
    stream = llm.generate("abc", max_tokens=20, stream=True)
    del llm
    gc.collect()
    assert len(list(stream)) == 20
    del stream
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_gets_an_error_instead_of_waiting_forever(llm):
    llm.generate("abc", max_tokens=2)
    child = os.fork()
    if child == 0:
        try:
            llm.generate("abc", max_tokens=2)
        except MotetError as error:
            llm.close()
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert llm.generate("abc", max_tokens=2).tokens


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]?{% endif %}"
)


def test_chat_uses_the_files_template():
    with make(ScriptedModel(saying("Hello."), ByteTokenizer(TEMPLATE))) as llm:
        messages = [{"role": "user", "content": "Hi"}]
        assert llm.chat_prompt(messages) == [BOS, *b"[user]Hi[assistant]?"]
        assert llm.chat(messages).text == "Hello."
        assert [chunk.text for chunk in llm.chat(messages, stream=True, stop=".")][-1] == ""


def test_chat_without_a_template_is_an_error(llm):
    with pytest.raises(TokenizerError, match="no chat template"):
        llm.chat([{"role": "user", "content": "Hi"}])


def test_a_model_without_a_vocabulary_takes_ids():
    model = ScriptedModel()
    model.tokenizer = None  # type: ignore[assignment]
    with make(model) as llm:
        completion = llm.generate([1, 2, 3], max_tokens=5, temperature=0)
        assert completion.text == ""
        assert len(completion.tokens) == 5
        with pytest.raises(UnsupportedError, match="no vocabulary"):
            llm.generate("abc")
        with pytest.raises(UnsupportedError, match="no vocabulary"):
            llm.generate([1], stop="x")


@pytest.fixture(scope="module")
def tiny():
    with LLM(shipped_model(), max_sequences=5, ubatch=16) as llm:
        yield llm


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


def test_streamed_text_continues_the_prompt_with_its_space(tiny):
    whole = tiny.generate("Once upon", max_tokens=8, temperature=0, echo=True).text
    assert whole.startswith("Once upon a")
    chunks = tiny.generate("Once upon", max_tokens=8, temperature=0, stream=True)
    assert "Once upon" + "".join(chunk.text for chunk in chunks) == whole


@needs_shared
def test_the_published_greedy_text():
    folder = SHARED / "stories260K"
    with LLM(folder / "stories260K-F32.gguf") as llm:
        text = llm.generate("", temperature=0, max_tokens=256).text
    assert text + "\n" == (folder / "greedy.txt").read_text()
