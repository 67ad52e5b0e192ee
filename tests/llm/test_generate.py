"""What an LLM on a scripted model says, and the options that decide it."""

from inspect import signature
from typing import get_type_hints

import numpy as np
import pytest

from motet.engine import GenerationOptions
from motet.engine.options import AnswerFields, ChatFields, GenerateFields
from motet.errors import (
    CapacityError,
    OptionError,
    TokenizerError,
    UnsupportedError,
)
from motet.llm import LLM
from motet.sampling import Sampling, SamplingFields
from tests.llm.making import free_sequences, make
from tests.scripted import BOS, EOS, N_VOCAB, ByteTokenizer, ScriptedModel, noise, saying
from tests.shared import SHARED, needs_shared


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


def test_a_completion_says_the_seed_that_gives_it_again(llm):
    first = llm.generate("abc", max_tokens=12)
    assert llm.generate("abc", max_tokens=12, seed=first.seed).text == first.text
    for answer in llm.generate("abc", max_tokens=12, n=3, seed=7):
        assert llm.generate("abc", max_tokens=12, seed=answer.seed).tokens == answer.tokens


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


def test_sampling_is_named_once(llm):
    """As an object, by its fields, or an object of which some fields are others."""
    greedy = llm.generate("abc", max_tokens=9, temperature=0).tokens
    assert llm.generate("abc", Sampling(temperature=0), max_tokens=9).tokens == greedy
    warm = Sampling(temperature=1.5, seed=3, top_k=5)
    by_fields = llm.generate("abc", max_tokens=9, temperature=1.5, seed=3, top_k=5)
    assert llm.generate("abc", warm, max_tokens=9).tokens == by_fields.tokens != greedy
    assert llm.generate("abc", warm, temperature=0, max_tokens=9).tokens == greedy
    assert llm.generate("abc", warm, seed=4, max_tokens=9).seed == 4
    assert llm.generate("abc", sampling=None, max_tokens=9, temperature=0).tokens == greedy


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("temprature", r"'temprature' \(did you mean temperature\?\)"),
        ("max_token", r"'max_token' \(did you mean max_tokens"),
        ("streams", r"'streams' \(did you mean stream"),
        ("qqq", r"'qqq' \(it has sampling, n, stream, .*repeat_penalty.*max_tokens"),
    ],
)
def test_an_unknown_option_names_what_may_be_meant(llm, name, message):
    with pytest.raises(OptionError, match=f"LLM.generate has no option {message}"):
        llm.generate("abc", **{name: 1})
    with pytest.raises(OptionError, match=f"LLM.chat has no option {message}"):
        llm.chat([], **{name: 1})


def test_chat_has_no_options_of_plain_prompts(llm):
    for name in ("echo", "parse_special", "checkpoints"):
        with pytest.raises(OptionError, match=f"LLM.chat has no option '{name}'"):
            llm.chat([], **{name: ()})


@pytest.mark.parametrize(
    ("method", "keywords"), [(LLM.generate, GenerateFields), (LLM.chat, ChatFields)]
)
def test_the_typed_keywords_are_the_options(method, keywords):
    """What type checkers are told, what the functions take, and what GenerationOptions has."""
    named = set(signature(method).parameters) - {"self", "prompt", "messages", "fields"}
    sampling = set(get_type_hints(SamplingFields))
    typed = get_type_hints(keywords)
    assert named == {"sampling", "n", "stream", "progress", *typed} - sampling
    own = {name: kind for name, kind in typed.items() if name not in sampling}
    tools = ChatFields.__annotations__.keys() - AnswerFields.__annotations__.keys()
    assert {name: own[name] for name in own.keys() - tools}.items() <= (
        get_type_hints(GenerationOptions).items()
    )
    if method is LLM.generate:
        assert own.keys() | {"n"} == get_type_hints(GenerationOptions).keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": 100}, "sampling is 100"),
        ({"n": True}, "n is True"),
        ({"prompt": 3}, "the prompt is"),
        ({"prompt": ["a", None]}, "the prompt is"),
        ({"prompt": [True, False]}, "the prompt is"),
        ({"prompt": [1, N_VOCAB]}, "token 258 at 1"),
        ({"prompt": [-1]}, "token -1 at 0"),
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"checkpoints": [3, -1]}, "checkpoints is -1"),
        ({"n": 0}, "n is 0"),
        ({"logprobs": -1}, "logprobs is -1"),
        ({"temperature": -1}, "temperature is -1"),
        ({"stop": ["a", ""]}, "a stop string is ''"),
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


def test_tokens_that_the_file_suppresses_are_never_chosen():
    tokenizer = ByteTokenizer()
    tokenizer.suppressed = frozenset(b"Y")
    with make(ScriptedModel(saying("Yes"), tokenizer)) as llm:
        said = llm.generate("is it?", temperature=0, logit_bias={ord("Y"): 100.0}).tokens
    assert list(said) == [0, *b"es", EOS]
