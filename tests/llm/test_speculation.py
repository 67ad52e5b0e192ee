"""Answers are the same with tokens proposed for them as without, and so is what memory holds."""

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.speculation_equality import Erring, check
from motet.cli.demo import shipped_model
from motet.errors import CapacityError, NumericalError, OptionError
from motet.llm import LLM
from motet.model import Model
from motet.speculation import Proposal, Wanted
from tests.llm.making import finished, make
from tests.models import tiny
from tests.scripted import N_VOCAB, ScriptedModel, noise

FAMILIES = ("llama", "gemma3", "mamba", "mamba2", "rwkv6", "rwkv7", "jamba", "qwen35")
FAMILIES += ("kimi-linear", "t5", "gpt-oss", "gemma4")


class Telling:
    """Proposes what a rule says about the tokens so far; notes what it was asked."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        self.asked: list[Wanted] = []
        self.ends: list[tuple[int, tuple[int, ...], int]] = []
        self.closed = False

    def propose(self, wanted: Sequence[Wanted]) -> list[Proposal | None]:
        self.asked += wanted
        found = [tuple(self.rule(each)) for each in wanted]
        return [Proposal(tokens, 0, "told") if tokens else None for tokens in found]

    def ended(self, seq: int, tokens: Sequence[int], start: int) -> None:
        self.ends.append((seq, tuple(tokens), start))

    def forget(self) -> None:
        self.ends.clear()

    def close(self) -> None:
        self.closed = True


def knowing(count: int = 100) -> Telling:
    """What the scripted model says of a greedy answer, so many tokens of it."""

    def rule(wanted: Wanted) -> list[int]:
        said = list(wanted.tokens)
        for _ in range(min(count, wanted.most)):
            said.append(int(np.argmax(noise(said))))
        return said[len(wanted.tokens) :]

    return Telling(rule)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_requests_are_answered_the_same(tmp_path: Path, family: str) -> None:
    model = tiny.load(tmp_path, family, context_length=160)
    wrong, _ = check(model, 12, FAMILIES.index(family), longest=24)
    assert not wrong, wrong[0]


def test_random_requests_held_to_grammars_are_answered_the_same() -> None:
    """With a draft model too, of another kind of memory."""
    draft = Model.load(shipped_model().with_name("motet-tiny-mamba.gguf"), 1)
    wrong, _ = check(Model.load(shipped_model(), 1), 16, 1, longest=24, draft=draft)
    assert not wrong, wrong[0]


def test_memory_holds_what_it_would_without() -> None:
    """Prompts go on from the same tokens, with the same checkpoints and bytes."""
    model = Model.load(shipped_model().with_name("motet-tiny-jamba.gguf"), 1)
    proposer, held = Erring(3), []
    for speculate in (None, proposer):
        with LLM(model, speculate=speculate, max_sequences=3) as llm:
            texts = [
                llm.generate([*range(20, 60), n], max_tokens=30, seed=n, stop=[" the"])
                for n in range(4)
            ]
            llm.generate([*range(20, 50)], max_tokens=20, n=2, seed=7)
            memory = llm._engine._context.memory
            held.append(
                [
                    [text.tokens for text in texts],
                    [text.usage.cached_tokens for text in texts],
                    llm.held(),
                    [memory.tokens(seq).tolist() for seq in range(3)],
                    [memory.checkpoints(seq) for seq in range(3)],
                ]
            )
            total = llm.load().total
        proposer.vocabulary = model.config.n_vocab
        proposer.known = [[*range(20, 60), n, *text.tokens] for n, text in enumerate(texts)]
    assert held[0] == held[1]
    assert 0 < total.accepted_tokens < total.proposed_tokens


def test_memory_goes_back_no_farther_than_without() -> None:
    """Where all that was proposed was chosen, too."""
    model = Model.load(shipped_model().with_name("motet-tiny-mamba.gguf"), 1)
    said = [20, 21, 22]
    proposer = Telling(lambda wanted: said[len(wanted.tokens) :][: wanted.most])
    found: list[object] = []
    for speculate in (None, proposer):
        with LLM(model, speculate=speculate) as llm, llm.conversation() as talk:
            answer = llm.generate(said[:3], max_tokens=12, seed=1, conversation=talk)
            found.append((answer.tokens, talk.state(), llm._engine._context.memory.used_bytes))
        said += answer.tokens
    assert answer.usage.accepted_tokens == answer.usage.proposed_tokens > 0
    assert found[0] == found[1]


def test_where_bytes_are_short_right_proposals_stand_in_nobodys_way() -> None:
    """The states that they could be taken back by are gone before the next step."""
    model = Model.load(shipped_model().with_name("motet-tiny-mamba.gguf"), 1)
    with LLM(model, speculate=None) as llm:
        llm.generate([20], max_tokens=1)
        state = llm._engine._context.memory.used_bytes
    said = [20, 21, 22]
    proposer = Telling(lambda wanted: said[len(wanted.tokens) :][:1])
    for speculate in (None, proposer):
        options: Any = {"max_sequences": 1, "kv_bytes": 3 * state, "checkpoint_bytes": 0}
        with LLM(model, speculate=speculate, **options) as llm:
            answer = llm.generate(said[:3], max_tokens=12, temperature=0)
        said += answer.tokens
    assert said[3:15] == said[15:]
    assert answer.usage.accepted_tokens == 5


def test_a_step_gives_as_many_tokens_as_were_foreseen() -> None:
    proposer = knowing(count=4)
    with make(ScriptedModel(), max_sequences=2, speculate=proposer) as llm:
        chunks = list(llm.generate("abc", max_tokens=21, temperature=0, stream=True))
        total, usage = llm.load().total, chunks[-1].completion.usage  # type: ignore[union-attr]
    assert len(chunks) == 21
    assert all(len(chunk.tokens) == 1 for chunk in chunks)
    assert total.steps == 1 + 4  # the prompt, and five tokens a step
    assert (usage.proposed_tokens, usage.accepted_tokens) == (16, 16)
    assert (total.proposed_tokens, total.accepted_tokens, total.proposals) == (16, 16, 4)
    assert [each.most for each in proposer.asked] == [15, 14, 9, 4]
    (end,) = proposer.ends
    assert end[1:] == ((256, *b"abc", *(chunk.tokens[0] for chunk in chunks)), 4)
    assert proposer.closed


def test_nothing_is_proposed_that_there_is_no_room_for() -> None:
    with make(ScriptedModel(), max_sequences=3, speculate=knowing(), ubatch=8) as llm:
        answers = llm.generate("abc", max_tokens=30, temperature=0, n=3)
        batches = llm._engine._context.batches  # type: ignore[attr-defined]
        assert max(map(len, batches)) <= 8
        whole = llm.generate("x" * 100, temperature=0)  # up to the context's end
        assert whole.finish_reason == "length"
        assert len(whole.tokens) == 128 - 101
    with make(ScriptedModel(), max_sequences=3, speculate=None) as plain:
        assert [a.tokens for a in plain.generate("abc", max_tokens=30, temperature=0, n=3)] == [
            answer.tokens for answer in answers
        ]


def test_the_end_of_an_answer_is_not_proposed() -> None:
    proposer = Telling(lambda wanted: [*b"bc"[: wanted.most], 257, 5][: wanted.most])
    rows = {97: 98, 98: 99, 99: 257}

    def rule(history: Sequence[int]) -> np.ndarray:
        row = np.zeros(N_VOCAB, np.float32)
        row[rows.get(history[-1], 97)] = 50
        return row

    with make(ScriptedModel(rule), max_sequences=1, speculate=proposer) as llm:
        answer = llm.generate("x", temperature=0)
        assert (answer.text, answer.finish_reason) == ("abc", "stop")
        assert (answer.usage.proposed_tokens, answer.usage.accepted_tokens) == (2, 2)
        assert llm.held() == [5]


@pytest.mark.parametrize(
    "error", [NumericalError("inf", entries=(1,)), CapacityError("full"), MemoryError()]
)
def test_what_fails_with_proposals_is_done_without(error: Exception) -> None:
    """Before any other sequence gives way to them."""
    with make(ScriptedModel(), max_sequences=3, speculate=knowing()) as llm:
        llm.generate("kept", max_tokens=30, temperature=0)
        held, context = llm.held(), llm._engine._context
        decode, failures = context.decode, []

        def failing(batch: Any) -> Any:
            if batch.entries().rewindable is not None:
                failures.append(len(batch))
                raise error
            return decode(batch)

        context.decode = failing  # type: ignore[method-assign]
        answer = llm.generate("abc", max_tokens=20, temperature=0)
        assert len(failures) == 2  # and then it is left alone for a while, for longer each time
        assert answer.usage.accepted_tokens == 0
        assert set(held) <= set(llm.held())
    with make(ScriptedModel(), max_sequences=1, speculate=None) as plain:
        assert plain.generate("abc", max_tokens=20, temperature=0).tokens == answer.tokens


@pytest.mark.parametrize(
    "rule", [lambda _: 1 / 0, lambda _: [-1], lambda _: [N_VOCAB], lambda _: "a"]
)
def test_a_proposer_that_fails_fails_nothing(rule: Any, caplog: pytest.LogCaptureFixture) -> None:
    proposer = Telling(rule)
    with make(ScriptedModel(), max_sequences=2, speculate=proposer) as llm:
        answer = llm.generate("abc", max_tokens=10, temperature=0)
    assert len(answer.tokens) == 10
    assert len(proposer.asked) == 1
    assert "nothing more is proposed" in caplog.text


def test_an_answer_that_nothing_is_proposed_for_waits_no_longer_than_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a clock of its own: a step takes 0.05 seconds, and 0.01 for each token but the first."""
    now: list[float] = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr("motet.engine.stepping.time", clock)
    monkeypatch.setattr("motet.engine.speculating.time", clock)
    seconds: list[tuple[int, float]] = []
    known = knowing()
    proposer = Telling(lambda wanted: known.rule(wanted) if wanted.tokens[1] == 97 else ())
    with make(ScriptedModel(), max_sequences=2, speculate=proposer) as llm:
        context = llm._engine._context
        decode = context.decode

        def timed(batch: Any) -> Any:
            took = 0.05 + 0.01 * (len(batch) - 1)
            now[0] += took
            seconds.append((len(batch), took))
            return decode(batch)

        context.decode = timed  # type: ignore[method-assign]
        alone = llm.generate("b", max_tokens=8, temperature=0)
        del seconds[:]
        other = llm.generate("b", max_tokens=60, temperature=0, stream=True)
        next(other)
        llm.generate("a", max_tokens=60, temperature=0)
        finished(other)
        assert alone.usage.proposed_tokens == 0
        assert llm.load().total.accepted_tokens > 20
    assert max(count for count, _ in seconds) > 4
    assert max(took for count, took in seconds) <= 2 * 0.06 + 1e-9


def test_auto_says_what_comes_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of its own, on which a step of n tokens takes 1 + 0.1 (n - 1) seconds."""
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr("motet.engine.stepping.time", clock)
    monkeypatch.setattr("motet.engine.speculating.time", clock)

    def timed(speculate: str | None, rule: Any, count: int) -> tuple[float, int]:
        with make(ScriptedModel(rule), max_sequences=1, speculate=speculate) as llm:
            context = llm._engine._context
            decode = context.decode

            def decoded(batch: Any) -> Any:
                now[0] += 1 + 0.1 * (len(batch) - 1)
                return decode(batch)

            context.decode = decoded  # type: ignore[method-assign]
            for n in range(count):
                llm.generate(chr(97 + n), max_tokens=100, seed=n, temperature=1.0)
            began = now[0]
            llm.generate("x", max_tokens=100, seed=count)
            return now[0] - began, llm.load().total.accepted_tokens

    def parrot(history: Sequence[int]) -> np.ndarray:
        row = np.zeros(N_VOCAB, np.float32)
        row[97 + len(history) % 23] = 50
        return row

    def letters(history: Sequence[int]) -> np.ndarray:
        """A few letters, at random: what was said before says little."""
        row = np.full(N_VOCAB, -np.inf, np.float32)
        row[[*b"abc"]] = random.Random(tuple(history).__hash__()).choices([0.0, 0.1], k=3)
        return row

    plain, _ = timed(None, parrot, 0)
    fast, accepted = timed("auto", parrot, 0)
    assert fast < 0.5 * plain
    assert accepted > 60
    plain, _ = timed(None, letters, 6)
    slow, _ = timed("auto", letters, 6)
    assert slow < 1.03 * plain + 2


def test_what_can_be_said_about_speculation() -> None:
    with pytest.raises(OptionError, match="speculate is 3"):
        make(ScriptedModel(), speculate=3)
    with make(ScriptedModel(), speculate="lookup") as llm:
        assert llm.generate("abcabcabc", max_tokens=3, temperature=0).text
