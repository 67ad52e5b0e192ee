"""Answers under a grammar: always of its form, and the same alone as beside any others."""

import json
import threading
from typing import Any

import numpy as np
import pytest

from motet.async_llm import AsyncLLM
from motet.cli.demo import shipped_model
from motet.engine import Completion
from motet.errors import OptionError
from motet.llm import LLM
from tests.llm.making import finished, free_sequences, make
from tests.scripted import EOS, ScriptedModel

pytest.importorskip("llguidance", reason="needs llguidance: pip install 'motet[grammar]'")

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["letter", "report"]},
        "size": {"type": "integer", "minimum": 0, "maximum": 999},
        "words": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 3},
    },
    "required": ["kind", "size", "words"],
    "additionalProperties": False,
}
PLAIN: dict[str, Any] = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0}
CALLS: list[dict[str, Any]] = [
    {"json_schema": SCHEMA},
    {"regex": "[a-f]{5,9}!"},
    {},
    {"grammar": 'root ::= "<" (root | [0-9])* ">"'},
    {"json_schema": SCHEMA, "temperature": 0},
    {"grammar": 'start: "(" A* ")"\nA: /[a-z ]{1,3}/', "repeat_penalty": 1.5},
]


def facts(completion: Completion) -> tuple[Any, ...]:
    return completion.text, completion.tokens, completion.finish_reason, completion.logprobs


def ask(llm: LLM, number: int, **more: Any) -> Completion:
    options = {**PLAIN, **CALLS[number], "seed": number, "max_tokens": 220, "logprobs": 2, **more}
    return llm.generate(f"Once {number}", **options)


def test_answers_are_of_their_form(tiny: LLM) -> None:
    for seed in range(4):
        value = json.loads(ask(tiny, 0, seed=seed).text)
        assert set(value) == set(SCHEMA["properties"]) and 0 <= value["size"] <= 999
    assert tiny.generate("Once", regex="[0-9]{3}", temperature=1, seed=1).text.isdigit()
    long = tiny.generate("Once", regex="[0-9]{30}", max_tokens=5, seed=1)
    assert long.finish_reason == "length" and len(long.tokens) == 5


def test_a_complete_answer_ends_without_another_token(tiny: LLM) -> None:
    assert tiny.tokenizer is not None
    done = tiny.generate("Once", json_schema=SCHEMA, seed=1, max_tokens=200)
    assert done.finish_reason == "stop" and done.text.endswith("}")
    assert done.tokens[-1] not in tiny.tokenizer.eog
    full = tiny.generate("Once", json_schema=SCHEMA, seed=1, max_tokens=len(done.tokens))
    assert facts(full) == facts(done)
    opened = tiny.generate("Once", regex="a+", seed=1, temperature=1, max_tokens=200)
    assert opened.finish_reason == "length" or opened.tokens[-1] in tiny.tokenizer.eog


def test_alone_and_beside_others() -> None:
    with LLM(shipped_model(), max_sequences=4, ubatch=16, prefix_reuse=False) as llm:
        alone = [facts(ask(llm, number)) for number in range(len(CALLS))]
        together: list[Any] = [None] * len(CALLS)

        def work(number: int) -> None:
            together[number] = facts(ask(llm, number))

        for _ in range(2):
            threads = [threading.Thread(target=work, args=(n,)) for n in range(len(CALLS))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert together == alone
        assert free_sequences(llm) == 4


def test_several_answers_streams_and_coroutines(tiny: LLM) -> None:
    import asyncio

    several = tiny.generate("Once", n=3, json_schema=SCHEMA, seed=5, max_tokens=120, **PLAIN)
    for number, each in enumerate(several):
        alone = tiny.generate("Once", json_schema=SCHEMA, seed=5 + number, max_tokens=120, **PLAIN)
        assert facts(each) == facts(alone)
    stream = tiny.generate("Once", json_schema=SCHEMA, seed=5, max_tokens=120, stream=True, **PLAIN)
    assert facts(finished(stream)) == facts(several[0])

    async def asked() -> Completion:
        return await AsyncLLM(tiny).generate(
            "Once", json_schema=SCHEMA, seed=5, max_tokens=120, **PLAIN
        )

    assert facts(asyncio.run(asked())) == facts(several[0])


def test_log_probabilities_are_the_models_own(tiny: LLM) -> None:
    assert tiny.tokenizer is not None
    prompt = tiny.tokenizer.encode("Once upon a time")
    answer = tiny.generate(prompt, regex="[0-9]{6}", seed=2, logprobs=1)
    scored = tiny.generate([*prompt, *answer.tokens], echo=True, logprobs=1, max_tokens=0)
    assert answer.logprobs is not None and scored.prompt_logprobs is not None
    assert answer.logprobs == scored.prompt_logprobs[-len(answer.tokens) :]


def test_echo_and_stop_strings(tiny: LLM) -> None:
    echoed = tiny.generate("Once", regex=" [A-Z]{4}", seed=2, echo=True)
    assert echoed.text[:5] == "Once " and len(echoed.text) == 9
    stopped = tiny.generate("Once", json_schema=SCHEMA, stop=":", seed=1)
    assert stopped.finish_reason == "stop" and ":" not in stopped.text
    assert stopped.text.lstrip("{ \n\t").startswith('"kind"')


@pytest.mark.parametrize("room", [40, 60, 90])
@pytest.mark.parametrize("recurrent", [False, True])
def test_preempted_answers_go_on_where_they_were(room: int, recurrent: bool) -> None:
    calls: list[dict[str, Any]] = [
        {"json_schema": {"type": "array", "items": {"enum": [1, 20, 300]}, "minItems": 5}},
        {"regex": "([a-c]{3} ){6}"},
        {},
    ]

    def asked(llm: LLM) -> list[Any]:
        streams = [
            llm.generate(str(n) * 9, seed=n, max_tokens=25, logprobs=1, n=2, stream=True, **call)
            for n, call in enumerate(calls)
        ]
        return [sorted(facts(c.completion) for c in stream if c.completion) for stream in streams]

    with make(ScriptedModel(recurrent=recurrent), max_sequences=6, ubatch=8) as llm:
        expected = asked(llm)
    with make(ScriptedModel(recurrent=recurrent), max_sequences=6, ubatch=8) as llm:
        llm.model.made.memory.room = max(room, 75)  # type: ignore[attr-defined]
        assert asked(llm) == expected


def test_an_answer_that_may_go_on_ends_by_its_token() -> None:
    def rule(history: Any) -> np.ndarray:
        row = np.zeros(258, np.float32)
        row[EOS if list(history)[-3:] == [*b"aaa"] else ord("a")] = 50
        return row

    with make(ScriptedModel(rule), max_sequences=1) as llm:
        answer = llm.generate("Once", regex="[ab]+", temperature=0)
        assert answer.text == "aaa" and answer.tokens[-1] == EOS
        assert answer.finish_reason == "stop"


def test_bans_that_leave_nothing_fail_their_own_request(tiny: LLM) -> None:
    assert tiny.tokenizer is not None
    digits = {t: -np.inf for t in range(1024) if tiny.tokenizer.piece(t).strip().isdigit()}
    beside = tiny.generate("Once", max_tokens=30, seed=1, stream=True)
    with pytest.raises(OptionError, match="grammar allows"):
        tiny.generate("Once", regex="[0-9]+", logit_bias=digits)
    assert finished(beside).tokens == tiny.generate("Once", max_tokens=30, seed=1).tokens
    assert tiny.generate("Once", regex="[0-9x]{3}", logit_bias=digits).text == "xxx"


def test_an_encoder_decoder_and_recurrent_memory() -> None:
    for name in ("t5", "jamba", "mamba"):
        with LLM(shipped_model().with_name(f"motet-tiny-{name}.gguf"), max_sequences=2) as llm:
            json.loads(llm.generate("Once", json_schema=SCHEMA, seed=1, max_tokens=200).text)


def test_what_is_refused_is_refused_before_anything_is_computed(tiny: LLM) -> None:
    for options, problem in (
        ({"regex": "a", "grammar": "start: /a/"}, "grammar and regex are given together"),
        ({"json_schema": {"not": {}}}, "not supported: not"),
        ({"regex": "("}, "regular expression"),
        ({"grammar": "x ::="}, "no rule root"),
        ({"json_schema": 3}, "JSON schema is 3"),
    ):
        with pytest.raises(OptionError, match=problem):
            tiny.generate("Once", stream=True, **options)  # type: ignore[arg-type]


def test_a_grammar_of_another_vocabulary_is_refused(tiny: LLM) -> None:
    with (
        LLM(shipped_model().with_name("motet-tiny-t5.gguf")) as other,
        pytest.raises(OptionError, match="another"),
    ):
        tiny.generate("Once", grammar=other.grammars.regex("a"))
