"""Forks while other threads decode, load and stream.

Whatever a child then does, with what it inherited or with something new, is answered bit for bit
as its parent would, or refused at once; and its parent goes on as if nothing had been.
"""

import faulthandler
import os
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from motet import LLM, Batch, Context, Model
from motet.cli.demo import shipped_model
from motet.errors import MotetError
from tests.hostile import harness

PROMPT = [5, 9, 2, 31, 7, 77, 14, 3] * 12
THREADS = 3
SMALL = 1 << 20
"""Bytes for checkpoints: address space is limited here."""
LIMIT = 10
"""Seconds after which a child hangs; it needs a tenth of one."""


def llm_on(model: Model | Path) -> LLM:
    return LLM(model, max_sequences=3, checkpoint_bytes=SMALL)


def context_of(model: Model) -> Context:
    return model.context(checkpoint_bytes=SMALL)


def answer(llm: LLM) -> tuple[int, ...]:
    return llm.generate(PROMPT, max_tokens=6, temperature=0.8, seed=3).tokens


def logits(context: Context) -> np.ndarray:
    """Of a prompt and three tokens after it, in a context that is emptied first."""
    context.memory.clear()
    rows = []
    for start, tokens in ((0, PROMPT), (len(PROMPT), [8]), (len(PROMPT) + 1, [1, 2])):
        batch = Batch()
        batch.extend(tokens, start, logits="all")
        rows.append(context.decode(batch).logits)
    return np.concatenate(rows)


class World:
    """Models at work in threads, and what their answers are."""

    def __init__(self) -> None:
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        self.path = shipped_model()
        self.model = Model.load(self.path, THREADS)
        self.expected = logits(context_of(self.model))
        self.idle, self.busy = context_of(self.model), context_of(self.model)
        self.llm = llm_on(self.model)
        self.answer = answer(self.llm)
        self.stream = llm_on(self.model).generate(PROMPT, max_tokens=150, stream=True)
        self.failure: str | None = None
        for work in (self._decode, self._answer, self._answer, self._load):
            threading.Thread(target=self._repeat, args=(work,), daemon=True).start()

    def _repeat(self, work: Callable[[], None]) -> None:
        try:
            while True:
                work()
        except BaseException:
            self.failure = traceback.format_exc()

    def _decode(self) -> None:
        assert np.array_equal(logits(self.busy), self.expected)

    def _answer(self) -> None:
        assert answer(self.llm) == self.answer

    def _load(self) -> None:
        assert Model.load(self.path, 2).fingerprint.weights


@cache
def world() -> World:
    return World()


# What children do.


def old_llm(world: World) -> None:
    llm = world.llm
    calls: list[Callable[[], object]] = [
        lambda: llm.generate("a"),
        lambda: llm.save("/dev/null"),
        llm.held,
        llm.forget,
    ]
    for call in calls:
        try:
            call()
        except MotetError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError("the LLM of another process answered")
    llm.close()


def old_stream(world: World) -> None:
    for _ in world.stream:
        raise AssertionError("the stream of another process went on")


def llm_on_old_model(world: World) -> None:
    with llm_on(world.model) as llm:
        assert answer(llm) == world.answer


def llm_from_file(world: World) -> None:
    with llm_on(world.path) as llm:
        assert answer(llm) == world.answer
        with tempfile.TemporaryFile() as file:
            llm.save(file)
            file.seek(0)
            llm.restore(file)


def idle_context(world: World) -> None:
    assert np.array_equal(logits(world.idle), world.expected)


def busy_context(world: World) -> None:
    assert np.array_equal(logits(world.busy), world.expected)


def new_context(world: World) -> None:
    assert np.array_equal(logits(context_of(world.model)), world.expected)


def threads(world: World) -> None:
    """Some at once on what was one model's pool of threads."""
    wrong: list[BaseException] = []

    def one() -> None:
        try:
            new_context(world)
        except BaseException as error:
            wrong.append(error)

    several = [threading.Thread(target=one) for _ in range(3)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert not wrong, wrong


def grandchild(world: World) -> None:
    """Its own child, before or after it computed anything itself."""
    in_child(world, [new_context, llm_on_old_model, idle_context])


def drop(world: World) -> None:
    """Models whose threads are elsewhere."""
    world.model = world.idle = world.busy = world.llm = world.stream = None  # type: ignore[assignment]
    with llm_on(world.path) as llm:
        assert answer(llm) == world.answer


ACTS = [
    old_llm,
    old_stream,
    llm_on_old_model,
    llm_from_file,
    idle_context,
    busy_context,
    new_context,
    threads,
    grandchild,
]


def in_child(world: World, acts: list[Callable[[World], None]]) -> None:
    """Fork, and let the child do these. Raises AssertionError where one went wrong or hung."""
    with tempfile.TemporaryFile("w+") as report:
        child = os.fork()
        if child == 0:
            faulthandler.register(signal.SIGALRM, file=report, chain=True)  # and then it dies
            signal.alarm(LIMIT)
            code = 1
            try:
                for act in acts:
                    try:
                        act(world)
                    except MotetError:
                        continue
                code = 0
            except BaseException:
                traceback.print_exc(file=report)
                report.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        report.seek(0)
        names = ", ".join(act.__name__ for act in acts)
        assert status == 0, f"child ended with {status}, doing {names}:\n{report.read()}"


def case(random: np.random.Generator) -> None:
    """Fork at a random moment, and let the child do a few things in random order."""
    mine = world()
    acts = [ACTS[i] for i in random.permutation(len(ACTS))[: random.integers(1, 5)]]
    if random.random() < 0.2:
        acts.append(drop)
    time.sleep(random.random() * 0.02)
    in_child(mine, acts)
    assert mine.failure is None, mine.failure


if __name__ == "__main__":
    harness.main(case, "Forks while others decode", seconds=4 * LIMIT, memory=6 << 30)
