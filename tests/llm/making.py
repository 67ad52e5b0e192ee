"""LLMs on scripted models, and a look at what they lend."""

import time
from typing import Any

from motet.llm import LLM
from tests.scripted import ScriptedModel


def make(model: ScriptedModel, **options: Any) -> LLM:
    return LLM(model, **options)  # type: ignore[arg-type]


def free_sequences(llm: LLM) -> int:
    """Counted once the engine has nothing to do."""
    deadline = time.monotonic() + 10
    while llm._engine._scheduler.busy and time.monotonic() < deadline:
        time.sleep(0.005)
    return len(llm._engine._scheduler.sequences)
