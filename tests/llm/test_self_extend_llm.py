"""LLMs beyond the trained length, and what they remember under another setting."""

import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import Batch, Model
from motet.cli.demo import shipped_model
from motet.engine import GenerationOptions, Request
from motet.errors import CapacityError, MotetError, OptionError, StateFileError, UnsupportedError
from motet.llm import LLM
from motet.sampling import Sampling
from motet.self_extend import AutoExtend, SelfExtend
from tests.llm.making import make
from tests.models import tiny
from tests.scripted import ScriptedModel

TRAINED = 64
SETTING = SelfExtend(4, 16)
REACH = 208


@pytest.fixture(scope="module")
def model() -> Model:
    shipped = Model.load(shipped_model())
    shipped.config = replace(shipped.config, context_length=TRAINED)
    return shipped


PROMPT = np.random.default_rng(0).integers(3, 1000, 150).tolist()
END = {2: -100.0}
"""A bias against the end of a text."""


def ask(llm: LLM, prompt: list[int], count: int = 6):
    return llm.generate(prompt, max_tokens=count, temperature=0, logprobs=1, logit_bias=END)


def by_hand(model: Model, prompt: list[int], count: int, setting: Any) -> list[int]:
    """Greedy tokens from a context of its own, one after the other."""
    context = model.context(self_extend=setting)
    tokens = list(prompt)
    for start in [0, *range(len(prompt), len(prompt) + count - 1)]:
        batch = Batch()
        batch.extend(tokens[start:], start)
        logits = context.decode(batch).logits[-1]
        logits[2] += END[2]
        tokens.append(int(np.argmax(logits)))
    return tokens[len(prompt) :]


def test_lengths(model: Model) -> None:
    with LLM(model) as llm:
        assert (llm.max_tokens, llm.self_extend) == (TRAINED, None)
    with LLM(model, self_extend=SETTING) as llm:
        assert (llm.max_tokens, llm.self_extend) == (REACH, SETTING)
    with LLM(model, self_extend="auto") as llm:
        assert (llm.max_tokens, llm.self_extend) == (16 * TRAINED, AutoExtend())
    with LLM(model, self_extend="auto", max_tokens=5000) as llm:
        assert llm.max_tokens == 5000
    with LLM(model, self_extend=SETTING, max_tokens=50) as llm:
        assert llm.max_tokens == 50


def test_more_is_refused_with_the_number(model: Model) -> None:
    with pytest.raises(OptionError, match=r"is 65, .* trained for 64 .*self_extend=.auto"):
        LLM(model, max_tokens=TRAINED + 1)
    with pytest.raises(OptionError, match=r"209 tokens is beyond .* reaches: 208"):
        LLM(model, max_tokens=REACH + 1, self_extend=SETTING)
    with LLM(model, self_extend=SETTING) as llm:
        with pytest.raises(CapacityError, match="has 208 tokens and the context holds 208"):
            ask(llm, [5] * REACH)
        assert ask(llm, [5] * (REACH - 1), 9).usage.completion_tokens == 1


def test_positions_beyond_counting_are_refused_with_the_trained_length() -> None:
    """A recurrent model may go on past it, but positions are int32."""
    with pytest.raises(OptionError, match=r"trained for 128 .*at most 128"):
        make(ScriptedModel(recurrent=True), max_tokens=(1 << 31) + 1)


@pytest.mark.parametrize("architecture", ["mamba", "jamba", "rwkv6"])
def test_models_without_positions(tmp_path: Path, architecture: str) -> None:
    with pytest.raises(UnsupportedError, match="Self-Extend groups positions"):
        LLM(tiny.load(tmp_path, architecture), self_extend="auto")


def test_a_setting_that_is_none_is_refused_before_the_model_is_loaded(monkeypatch) -> None:
    monkeypatch.setattr(Model, "load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(OptionError, match="self_extend is 8"):
        LLM(shipped_model(), self_extend=8)  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", [SETTING, AutoExtend("log")], ids=str)
def test_answers_beyond_the_trained_length(model: Model, setting) -> None:
    """As by hand, beside others, from a remembered prefix or from the start."""
    prompts = [PROMPT[:n] for n in (10, 60, 66, 140)]
    expected = [by_hand(model, prompt, 8, setting) for prompt in prompts]
    for reuse in (True, False):
        with LLM(model, self_extend=setting, prefix_reuse=reuse, ubatch=32) as llm:
            answers: dict[int, Any] = {}

            def answer(i: int, llm: LLM = llm, answers: dict = answers) -> None:
                answers[i] = ask(llm, prompts[i], 8)

            threads = [threading.Thread(target=answer, args=(i,)) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [list(answers[i].tokens) for i in range(4)] == expected
            again = ask(llm, prompts[3], 8)
            assert list(again.tokens) == expected[3]
            assert (again.usage.cached_tokens == 139) == reuse
            assert again.logprobs == answers[3].logprobs


def test_what_is_remembered_is_not_mixed(model: Model) -> None:
    """What follows a switch is what an LLM made so gives."""
    short, long = PROMPT[:50], PROMPT[:60]

    def fresh(setting: Any):
        with LLM(model, self_extend=setting) as other:
            return ask(other, long, 4)

    with LLM(model, max_sequences=2) as llm:
        ask(llm, short, 4)
        for setting in (SETTING, SelfExtend(4, 16, "log"), SelfExtend(2, 9), None, "auto"):
            llm.self_extend = setting
            assert llm.held() == []
            answer = ask(llm, long, 4)
            assert answer.usage.cached_tokens == 0
            assert answer.logprobs == fresh(setting).logprobs
            llm.self_extend = llm.self_extend  # no change, and nothing is forgotten
            assert ask(llm, long, 4).usage.cached_tokens == 59
        assert llm.max_tokens == 16 * TRAINED
        assert list(ask(llm, PROMPT).tokens) == by_hand(model, PROMPT, 6, "auto")


def test_a_switch_that_cannot_be_changes_nothing(model: Model) -> None:
    with LLM(model, self_extend=SETTING, max_tokens=200) as llm:
        ask(llm, PROMPT)
        for setting, match in (
            (SelfExtend(2, 16), r"200 tokens is beyond .* reaches: 112"),
            (SelfExtend(2, 64), "window is 64"),
            (None, "max_tokens is 200, but the model was trained for 64"),
            ("no", "self_extend is 'no'"),
        ):
            with pytest.raises(OptionError, match=match):
                llm.self_extend = setting
        assert (llm.self_extend, llm.max_tokens) == (SETTING, 200)
        assert ask(llm, PROMPT).usage.cached_tokens == len(PROMPT) - 1


def test_no_switch_while_answers_are_under_way() -> None:
    with make(ScriptedModel(), max_sequences=2) as llm:
        context: Any = llm._engine._context
        context.gate.clear()
        stream = llm.generate("a", max_tokens=3, stream=True)
        assert context.entered.wait(10)
        failures: list[MotetError] = []

        def switch() -> None:
            try:
                llm.self_extend = AutoExtend()
            except MotetError as error:
                failures.append(error)

        thread = threading.Thread(target=switch)
        thread.start()
        context.gate.set()
        thread.join(10)
        assert "answers are under way" in str(failures[0])
        list(stream)
        assert llm.self_extend is None


def test_a_request_for_the_context_that_was_is_refused(model: Model) -> None:
    """One that was checked just before the context became shorter."""
    with LLM(model, self_extend=SETTING) as llm:
        late = Request([5] * 60, Sampling(), GenerationOptions(), 40, print, None)
        llm.self_extend = None
        with pytest.raises(MotetError, match="the context became shorter meanwhile"):
            llm._engine.submit([late])


@pytest.mark.parametrize("in_memory", [True, False])
def test_saved_and_restored(model: Model, tmp_path: Path, in_memory: bool) -> None:
    """Past the trained length, under the setting it was saved with or not at all."""
    file: Any = io.BytesIO() if in_memory else tmp_path / "state"

    def rewind() -> Any:
        if in_memory:
            file.seek(0)
        return file

    with LLM(model, max_sequences=2, self_extend=SETTING) as llm:
        said = list(ask(llm, PROMPT).tokens)
        llm.save(file, {"a": "note"})
        expected = ask(llm, PROMPT + said)
    with LLM(model, max_sequences=2) as llm:
        ask(llm, [7, 8, 9])
        with pytest.raises(StateFileError, match="other Self-Extend settings"):
            llm.restore(rewind())
        assert llm.held() and llm.max_tokens == TRAINED
        assert llm.restore(rewind(), adopt_self_extend=True) == {"a": "note"}
        assert (llm.self_extend, llm.max_tokens) == (SETTING, REACH)
        assert llm.held() == [len(PROMPT) + 5]
        answer = ask(llm, PROMPT + said)
        assert answer.usage.cached_tokens == len(PROMPT) + 5
        assert (answer.tokens, answer.logprobs) == (expected.tokens, expected.logprobs)
    with LLM(model, max_tokens=60) as llm:
        ask(llm, [7, 8, 9])
        with pytest.raises(CapacityError, match="has 155 tokens and the context holds 60"):
            llm.restore(rewind(), adopt_self_extend=True)
        assert (llm.self_extend, llm.max_tokens, len(llm.held())) == (None, 60, 1)


def test_what_tokens_do_not_tell_is_left_out(model: Model, tmp_path: Path) -> None:
    """A context may save a sequence that was begun under another setting, or was edited."""
    context = model.context(max_sequences=4, context_length=200)
    batch = Batch()
    for seq in (0, 1, 2):
        batch.extend(PROMPT[:40], 0, seq)
    context.decode(batch)
    context.memory.remove(1, 10, 20)
    context.memory.shift(1, 20, None, -10)
    context.self_extend = SETTING
    context.memory.remove(2)
    batch = Batch()
    batch.extend(PROMPT[:45], 0, 2)
    batch.extend(PROMPT[40:50], 40, 0)
    context.decode(batch)
    context.save(tmp_path / "state")
    with LLM(model, self_extend=SETTING, max_sequences=4) as llm:
        llm.restore(tmp_path / "state")
        assert llm.held() == [45]
        assert ask(llm, PROMPT).usage.cached_tokens == 45
        assert list(ask(llm, PROMPT).tokens) == by_hand(model, PROMPT, 6, SETTING)
