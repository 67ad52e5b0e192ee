"""One LLM under 64 threads that generate, fork, cancel, save, restore and forget, all at once.

Every answer is the one that its prompt gets alone, nobody waits for ever, and at the end all
sequences are free and memory's books are right.
"""

import io
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from motet.errors import CapacityError, MotetError
from motet.llm import LLM
from tests.hostile.harness import main
from tests.models import tiny
from tests.toy import bookkeeping

THREADS = 64
ACTIONS = 6
FAMILIES = ("llama", "gemma3", "mamba", "jamba", "rwkv6")
LONGEST = 160
"""Tokens of the context."""

Random = np.random.Generator
Prompt = list[int]


@cache
def model_of(family: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        model = tiny.load(Path(folder), family, context_length=LONGEST)
        _ = model.fingerprint
    return model


def prompt_of(number: int) -> Prompt:
    """Some begin alike."""
    beginning = [1, 2, 3, 4, 5] * 9 if number % 3 else [9, 8]
    return [*beginning, *([6 + number] * (1 + 5 * (number % 5))), 7]


@cache
def alone(family: str, number: int) -> tuple[int, ...]:
    """Twelve tokens of the answer to a prompt that is alone."""
    with LLM(model_of(family), max_sequences=1, prefix_reuse=False) as llm:
        return llm.generate(prompt_of(number), max_tokens=12, seed=number).tokens


class Crowd:
    """What the threads share."""

    def __init__(self, random: Random) -> None:
        self.family = str(random.choice(FAMILIES))
        for number in range(12):
            alone(self.family, number)
        self.llm = LLM(
            model_of(self.family),
            max_sequences=int(random.choice([1, 2, 5, 16])),
            ubatch=int(random.choice([4, 32, 512])),
            kv_bytes=int(random.choice([1 << 26, 1 << 26, 150_000])),
            checkpoint_bytes=int(random.choice([1 << 20, 5000, 0])),
            prefix_reuse=bool(random.random() < 0.9),
        )
        self.folder = tempfile.TemporaryDirectory()
        self.files: list[bytes] = []
        self.failures: list[BaseException] = []

    def act(self, random: Random) -> None:
        """A thread."""
        try:
            for _ in range(ACTIONS):
                ACTS[int(random.integers(len(ACTS)))](self, random)
        except BaseException as error:
            self.failures.append(error)

    def check(self, tokens: tuple[int, ...], number: int) -> None:
        expected = alone(self.family, number)[: len(tokens)]
        assert tokens == expected, f"prompt {number} of {self.family}: {tokens}, not {expected}"


def generate(crowd: Crowd, random: Random) -> None:
    number, count = int(random.integers(12)), int(random.integers(1, 13))
    answer = crowd.llm.generate(prompt_of(number), max_tokens=count, seed=number)
    assert len(answer.tokens) == count
    crowd.check(answer.tokens, number)


def generate_several(crowd: Crowd, random: Random) -> None:
    numbers = random.integers(0, 12, 3).tolist()
    answers = crowd.llm.generate([prompt_of(n) for n in numbers], max_tokens=4, temperature=0)
    again = crowd.llm.generate(prompt_of(numbers[1]), max_tokens=4, temperature=0)
    assert answers[1].tokens == again.tokens


def fork(crowd: Crowd, random: Random) -> None:
    number = int(random.integers(12))
    n = min(2, crowd.llm.max_sequences)
    answers = crowd.llm.generate(prompt_of(number), n=n, max_tokens=5, seed=number)
    first = answers[0] if isinstance(answers, list) else answers
    crowd.check(first.tokens, number)


def cancel(crowd: Crowd, random: Random) -> None:
    number = int(random.integers(12))
    with crowd.llm.generate(prompt_of(number), max_tokens=12, seed=number, stream=True) as stream:
        tokens = [token for _ in range(int(random.integers(0, 4))) for token in next(stream).tokens]
    crowd.check(tuple(tokens), number)


def save(crowd: Crowd, random: Random) -> None:
    file = io.BytesIO()
    crowd.llm.save(file, {"a": "note"})
    crowd.files.append(file.getvalue())


def save_to_a_path(crowd: Crowd, random: Random) -> None:
    path = Path(crowd.folder.name) / f"state{random.integers(3)}"
    crowd.llm.save(path)
    crowd.llm.notes(path)
    crowd.files.append(path.read_bytes())


def restore(crowd: Crowd, random: Random) -> None:
    if not crowd.files:
        return
    data = crowd.files[int(random.integers(len(crowd.files)))]
    if random.random() < 0.2:
        data = data[: len(data) // 2]
    try:
        crowd.llm.restore(io.BytesIO(data))
    except CapacityError:
        pass
    except MotetError:
        assert len(data) < max(map(len, crowd.files))


def forget(crowd: Crowd, random: Random) -> None:
    if random.random() < 0.3:
        crowd.llm.forget()
    assert all(count <= LONGEST for count in crowd.llm.held())


ACTS: tuple[Callable[[Crowd, Random], None], ...] = (
    generate,
    generate,
    generate_several,
    fork,
    cancel,
    cancel,
    save,
    save_to_a_path,
    restore,
    restore,
    forget,
)


def case(random: Random) -> None:
    """A crowd on one LLM."""
    crowd = Crowd(random)
    with crowd.llm as llm, crowd.folder:
        seeds = random.integers(0, 1 << 30, THREADS)
        threads = [
            threading.Thread(target=crowd.act, args=(np.random.default_rng(seed),), daemon=True)
            for seed in seeds
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if crowd.failures:
            raise crowd.failures[0]
        llm.held()  # between two steps, after everything that was cancelled is released
        sequences = llm._engine._scheduler.sequences
        assert len(sequences) == llm.max_sequences
        bookkeeping(llm._engine._context)
        crowd.check(llm.generate(prompt_of(1), max_tokens=12, seed=1).tokens, 1)


if __name__ == "__main__":
    main(case, __doc__ or "", seconds=300, memory=6 << 30)
