"""Served models that say what a test has them say, and a template with every kind of message."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from motet import LLM
from tests.scripted import EOS, N_VOCAB, ByteTokenizer, Rule, ScriptedConfig, ScriptedModel

TURN = "\x01"
"""Where the assistant's turn begins."""
TEMPLATE = (
    "{% if tools %}tools {{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}{{ TURN if m.role == 'assistant' else '[' + m.role + ']' }}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n'
    "</tool_call>{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ TURN }}{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
).replace("TURN", "'\\x01'")
PLAIN = TEMPLATE.replace("enable_thinking", "ignored")


def replying(reply: Callable[[str], str]) -> Rule:
    """Says what ``reply`` makes of the prompt, then ends."""

    def rule(history: Sequence[int]) -> np.ndarray:
        at = max(place for place, token in enumerate(history) if token == ord(TURN))
        prompt = bytes(token for token in history[:at] if token < 256).decode()
        script = [*reply(prompt).encode(), EOS]
        row = np.zeros(N_VOCAB, np.float32)
        row[script[min(len(history) - 1 - at, len(script) - 1)]] = 50.0
        return row

    return rule


class Replying(ScriptedModel):
    """What a server takes for a model that writes."""

    blocks = ()
    pooled_heads: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, reply: Callable[[str], str], template: str = TEMPLATE) -> None:
        super().__init__(
            replying(reply), ByteTokenizer(template), ScriptedConfig(context_length=4096)
        )

    def forward(self) -> None:
        raise NotImplementedError

    def head(self) -> None:
        raise NotImplementedError


def replies(reply: Callable[[str], str], template: str = TEMPLATE) -> Callable[[], LLM]:
    """Makes an LLM of such a model."""
    return lambda: LLM(Replying(reply, template), max_sequences=4, ubatch=64)  # type: ignore[arg-type]
