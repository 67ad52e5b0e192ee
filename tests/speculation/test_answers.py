"""Answers with a draft model, and with predictions: those without, and what was proposed for them
was of use."""

from collections.abc import Sequence
from typing import Any

import pytest

from motet import LLM, Model, MotetError, OptionError
from motet.cli.demo import shipped_model
from motet.engine import Completion
from motet.speculation import DraftModel, Lookup, Proposal, Wanted

PROMPTS = ["Once upon a time, there was", "Tom and his dog went to the park.", "ROMEO:"]
KINDS = ["", "-mamba", "-jamba"]
PAIRS = [("", "-mamba"), ("-mamba", "-jamba"), ("-jamba", ""), ("-mamba", "-mamba")]


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {kind: Model.load(shipped_model().with_name(f"motet-tiny{kind}.gguf")) for kind in KINDS}


def answers(model: Model, speculate: Any, **options: Any) -> list[Completion]:
    with LLM(model, max_sequences=4, speculate=speculate) as llm:
        return llm.generate(PROMPTS, max_tokens=30, logprobs=2, **options)


def said(found: Sequence[Completion]) -> list[object]:
    return [(each.tokens, each.text, each.logprobs, each.finish_reason) for each in found]


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0}, {"seed": 3, "n": 2}, {"seed": 4, "repeat_penalty": 1.3, "top_k": 0}],
)
@pytest.mark.parametrize(("target", "draft"), PAIRS)
def test_a_draft_changes_nothing_that_is_said(
    models: dict[str, Model], target: str, draft: str, options: dict[str, Any]
) -> None:
    model = models[target]
    found = answers(model, DraftModel(models[draft], model, 4, 256), **options)
    assert said(found) == said(answers(model, None, **options))
    proposed = sum(each.usage.proposed_tokens for each in found)
    accepted = sum(each.usage.accepted_tokens for each in found)
    assert 0 < accepted <= proposed
    assert accepted == proposed or target != draft


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_was_predicted_takes_few_steps(models: dict[str, Model], kind: str) -> None:
    model = models[kind]
    options: Any = {"max_tokens": 50, "seed": 5}
    with LLM(model, speculate=None) as llm:
        plain = llm.generate(PROMPTS[0], **options)
    changed = plain.text[:60] + " And so " + plain.text[70:]
    with LLM(model, speculate=Lookup()) as llm:
        for prediction, least in ((plain.text, 40), (changed, 25)):
            llm.forget()
            steps = llm.load().total.steps
            found = llm.generate(PROMPTS[0], prediction=prediction, **options)
            assert (found.tokens, found.text) == (plain.tokens, plain.text)
            assert found.usage.accepted_tokens >= least
            assert llm.load().total.steps - steps <= 52 - least


@pytest.mark.parametrize("reuse", [True, False])
def test_answers_serve_others_as_the_prefix_cache_does(
    models: dict[str, Model], reuse: bool
) -> None:
    options: Any = {"max_tokens": 50, "seed": 5}
    with LLM(models[""], speculate=Lookup(), prefix_reuse=reuse) as llm:
        first = llm.generate(PROMPTS[0], **options)
        again = llm.generate(PROMPTS[0], **options)
        llm.forget()
        forgotten = llm.generate(PROMPTS[0], **options)
    assert first.tokens == again.tokens == forgotten.tokens
    assert (again.usage.accepted_tokens > 40) == reuse
    assert forgotten.usage.accepted_tokens == first.usage.accepted_tokens < 20


def test_what_an_llm_is_made_with_serves_every_answer(models: dict[str, Model]) -> None:
    model = models[""]
    assert model.tokenizer is not None
    plain = answers(model, None, seed=1)
    texts = [model.tokenizer.encode(each.text, add_special=False) for each in plain]
    found = answers(model, Lookup(texts), seed=1)
    assert said(found) == said(plain)
    assert sum(each.usage.accepted_tokens for each in found) > 45


class Given:
    """A proposer of the caller's, with which something is wrong."""

    def __init__(self, *tokens: Any, failing: str = "") -> None:
        self.tokens = tokens
        self.failing = failing

    def called(self, name: str) -> None:
        if name == self.failing:
            raise ValueError(name)

    def propose(self, wanted: Sequence[Wanted]) -> list[Proposal | None]:
        self.called("propose")
        return [Proposal(self.tokens, 0, "given")] * len(wanted)

    def ended(self, seq: int, tokens: Sequence[int], start: int) -> None:
        self.called("ended")

    def forget(self) -> None:
        self.called("forget")

    def close(self) -> None:
        self.called("close")


@pytest.mark.parametrize(
    "proposer",
    [
        *(Given(token) for token in (1 << 40, 1024, -1, 1.5, "a", None)),
        *(Given(7, failing=name) for name in ("propose", "ended", "forget", "close")),
    ],
)
def test_a_proposer_of_the_callers_fails_no_answer(
    models: dict[str, Model], proposer: Given, caplog: pytest.LogCaptureFixture
) -> None:
    with LLM(models[""], speculate=proposer) as llm:
        found = [llm.generate(PROMPTS[0], max_tokens=5, seed=1) for _ in range(2)]
        llm.forget()
    assert found[0].text == found[1].text
    assert "nothing more is proposed, for the proposer failed" in caplog.text


def test_a_draft_that_is_not_smaller_is_named(
    models: dict[str, Model], caplog: pytest.LogCaptureFixture
) -> None:
    small, large = sorted((models[""], models["-mamba"]), key=lambda each: each.bytes_per_token)
    LLM(large, speculate=small).close()
    assert "not smaller" not in caplog.text
    LLM(small, speculate=large).close()
    assert f"{large.name}, the draft, is not smaller than {small.name}" in caplog.text


def test_what_proposes_nothing_is_refused(models: dict[str, Model]) -> None:
    for wrong in (Lookup, "", 3, "ngram", "none"):
        with pytest.raises(MotetError, match="speculate is ") as error:
            LLM(models[""], speculate=wrong)  # pyright: ignore[reportArgumentType]
        assert '"lookup"' in str(error.value)
    for texts in ("text", ["text"], [1, 2], [["a"]], [[-1]]):
        with pytest.raises(OptionError, match="text"):
            Lookup(texts)  # pyright: ignore[reportArgumentType]


def test_how_many_are_proposed_is_the_callers_choice(models: dict[str, Model]) -> None:
    options: Any = {"max_tokens": 50, "seed": 5}
    with LLM(models[""], speculate=Lookup()) as llm:
        plain = llm.generate(PROMPTS[0], max_proposed=0, **options)
        assert plain.usage.proposed_tokens == 0
        steps = llm.load().total.steps
        found = llm.generate(PROMPTS[0], prediction=plain.text, max_proposed=2, **options)
        assert found.tokens == plain.tokens
        assert 0 < found.usage.accepted_tokens < 2 * (llm.load().total.steps - steps)
