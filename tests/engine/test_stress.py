"""Many clients at once, short of memory, cancelling and timing out: each gets what it would get
alone, and nothing is left of them.

``MOTET_STRESS_SECONDS`` says how long each model is used, for runs that are longer than a test.
"""

import os
import random
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speculation_equality import Erring
from motet.engine.pace import Pace
from motet.errors import BusyError, TimedOut
from motet.llm import LLM
from motet.model import Model
from tests.llm.making import free_sequences
from tests.models import tiny
from tests.shared import SHARED, needs_shared
from tests.toy import bookkeeping

SECONDS = float(os.environ.get("MOTET_STRESS_SECONDS", "0.5"))
THREADS = 16
PROMPTS = 12
COUNT = 24
"""Tokens of an answer."""
SEQUENCES = 8
LONGEST = 160

TINY = ["llama", "gemma3", "mamba", "jamba", "rwkv6", "t5"]
GOLDENS = ["gemma2", "jamba", "rwkv6"]


@cache
def tiny_model(family: str) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        return tiny.load(Path(folder), family, context_length=LONGEST)


@cache
def golden(name: str) -> Model:
    return Model.load(SHARED / "parity" / name / "model.gguf", 2)


def prompt_of(number: int) -> list[int]:
    """Most begin alike."""
    beginning = [1, 2, 3, 4, 5] * 8 if number % 3 else [9, 8]
    return [*beginning, *([6 + number] * (1 + 5 * (number % 5))), 7]


class Crowd:
    """What the threads share."""

    def __init__(self, model: Model, llm: LLM, seed: int) -> None:
        self.llm = llm
        self.seed = seed
        with LLM(model, max_sequences=1, prefix_reuse=False, max_tokens=LONGEST) as alone:
            self.expected = [
                [
                    alone.generate(prompt_of(number), max_tokens=COUNT, seed=seed, logprobs=1)
                    for seed in range(number, number + 3)
                ]
                for number in range(PROMPTS)
            ]
        self.until = time.monotonic() + SECONDS
        self.done = 0
        self.failures: list[BaseException] = []

    def act(self, number: int) -> None:
        """A thread."""
        rng = random.Random(self.seed * THREADS + number)
        try:
            while time.monotonic() < self.until and not self.failures:
                self.ask(rng)
        except BaseException as error:
            self.failures.append(error)

    def ask(self, rng: random.Random) -> None:
        """One request: read to its end, closed on the way, or late."""
        number, count = rng.randrange(PROMPTS), rng.randrange(1, COUNT + 1)
        n = rng.choice([1, 1, 1, 2, 3])
        closed_after = rng.choice([None, None, 0, 3])
        timeout = rng.choice([None, None, None, 0.0, 0.01, 0.05])
        expected = self.expected[number]
        tokens: dict[int, list[int]] = {i: [] for i in range(n)}
        try:
            stream = self.llm.generate(
                prompt_of(number),
                max_tokens=count,
                seed=number,
                n=n,
                logprobs=1,
                client=rng.choice("abc"),
                timeout=timeout,
                stream=True,
            )
            with stream:
                if closed_after == 0:
                    return
                for got, chunk in enumerate(stream, 1):
                    tokens[chunk.index] += chunk.tokens
                    if chunk.completion:
                        alone = expected[chunk.index]
                        assert chunk.completion.tokens == alone.tokens[:count]
                        assert chunk.completion.logprobs == (alone.logprobs or ())[:count]
                        self.done += 1
                    if got == closed_after:
                        break
        except BusyError as error:
            assert error.retry_after >= 1
            time.sleep(0.002)
        except TimedOut:
            assert timeout is not None
        for i, written in tokens.items():
            assert tuple(written) == expected[i].tokens[: len(written)]


def stress(model: Model, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(  # any cut of prompts
        Pace, "room", lambda self, writing, most: rng.randint(1, most) if writing else most
    )
    with LLM(model, max_sequences=1, max_tokens=LONGEST, checkpoint_bytes=0) as llm:
        stream = llm.generate([1] * (LONGEST - 40), max_tokens=40, stream=True)
        one = max(llm.load().kv_bytes_used for _ in stream)
        times = 3 if llm._engine._context.memory.rewinds_anywhere else 6
    options: dict[str, Any] = {
        "max_sequences": SEQUENCES,
        "max_tokens": LONGEST,
        "ubatch": rng.choice([8, 64, 512]),
        "kv_bytes": times * one,  # a state is kept until the next one is there
    }
    proposer = Erring(seed)
    proposer.vocabulary = model.config.n_vocab
    with LLM(model, max_waiting=4, speculate=proposer, **options) as llm:
        crowd = Crowd(model, llm, seed)
        proposer.known = [
            [*prompt_of(number), *answer.tokens]
            for number, answers in enumerate(crowd.expected)
            for answer in answers
        ]
        threads = [threading.Thread(target=crowd.act, args=[i]) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS + 60)
            assert not thread.is_alive()
        assert not crowd.failures, (crowd.failures[0], options)
        assert crowd.done
        assert free_sequences(llm) == SEQUENCES
        load = llm.load()
        assert load.total.accepted_tokens <= load.total.proposed_tokens
        assert (load.running, load.waiting, load.sequences_used) == (0, 0, 0)
        assert not llm._engine._scheduler.waiting._running
        bookkeeping(llm._engine._context)
        llm.forget()
        assert llm.held() == []
        assert llm._engine._context.memory.used_bytes == 0
        assert llm.load().kv_bytes_used == 0


@pytest.mark.parametrize("family", TINY)
def test_many_clients(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stress(tiny_model(family), monkeypatch, TINY.index(family))


@needs_shared
@pytest.mark.parametrize("name", GOLDENS)
def test_many_clients_of_goldens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stress(golden(name), monkeypatch, GOLDENS.index(name))
