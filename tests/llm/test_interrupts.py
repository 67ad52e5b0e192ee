"""Ctrl-C in a caller, at any line of Python or where a function of it begins: the LLM goes on."""

import io
import threading
from collections.abc import Callable

import pytest

from motet.llm import LLM
from tests.interrupting import interrupted_at
from tests.llm.making import free_sequences
from tests.models import tiny

PROMPT = [1, 2, 3, 4, 5] * 3


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    model = tiny.load(tmp_path_factory.mktemp("models"), "jamba")
    with LLM(model, max_sequences=3) as llm:
        yield llm


def save(llm: LLM) -> bytes:
    file = io.BytesIO()
    llm.save(file)
    return file.getvalue()


ACTIONS: dict[str, Callable[[LLM, bytes], object]] = {
    "generate": lambda llm, _: llm.generate(PROMPT, max_tokens=2, seed=1),
    "stream": lambda llm, _: next(llm.generate(PROMPT, max_tokens=2, seed=1, stream=True)),
    "held": lambda llm, _: llm.held(),
    "save": lambda llm, _: save(llm),
    "restore": lambda llm, data: llm.restore(io.BytesIO(data)),
    "notes": lambda llm, data: llm.notes(io.BytesIO(data)),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_interrupted_anywhere(llm: LLM, name: str):
    expected = llm.generate(PROMPT, max_tokens=6, seed=1).tokens
    data, event, interrupts = save(llm), 1, 0
    answers: list[tuple[int, ...]] = []

    def ask() -> None:
        answers.append(llm.generate(PROMPT, max_tokens=6, seed=1).tokens)

    # Saving and restoring have thousands of events; of those that far from the engine, some.
    while interrupted_at(event, lambda: ACTIONS[name](llm, data)):
        interrupts += 1
        event += 1 + event // 10
        other = threading.Thread(target=ask)
        other.start()
        other.join(60)
        assert not other.is_alive(), f"event {event}"
    assert interrupts > 10 and set(answers) == {expected}
    assert free_sequences(llm) == 3
