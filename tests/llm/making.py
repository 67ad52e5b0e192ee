"""LLMs on scripted models, and a look at their sequences."""

import time
from typing import Any

from motet.engine import Completion, Stream
from motet.llm import LLM
from tests.scripted import ScriptedModel


def make(model: ScriptedModel, **options: Any) -> LLM:
    return LLM(model, **options)  # type: ignore[arg-type]


def finished(stream: Stream) -> Completion:
    """The completion that the stream of one answer ends with."""
    *_, last = stream
    assert last.completion is not None
    return last.completion


def free_sequences(llm: LLM) -> int:
    """Counted once the engine has nothing to do."""
    deadline = time.monotonic() + 10
    while llm._engine._scheduler.busy and time.monotonic() < deadline:
        time.sleep(0.005)
    return len(llm._engine._scheduler.sequences)
