"""Served models that say what a test has them say, and a template with every kind of message."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from motet import LLM
from motet.tokenizer import Tokenizer
from tests.scripted import BOS, EOS, N_VOCAB, Rule, ScriptedConfig, ScriptedModel
from tests.tokenizer.vocabularies import CONTROL, NORMAL, byte_alphabet, made

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


def byte_tokenizer(template: str) -> Tokenizer:
    """Bytes, BOS and EOS, as scripted models have them."""
    alphabet = byte_alphabet()
    nul = alphabet[0]
    alphabet[255] = nul + nul  # no text has that byte, and there has to be a merge
    tokens = [*alphabet, "<s>", "</s>"]
    metadata = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": [NORMAL] * 256 + [CONTROL] * 2,
        "merges": [f"{nul} {nul}"],
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "add_bos_token": True,
    }
    named = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    return made({**named, "tokenizer.chat_template": template})


class Replying(ScriptedModel):
    """What a server takes for a model that writes."""

    blocks = ()
    kernels = SimpleNamespace(arithmetic="scripted")
    pooled_heads: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, reply: Callable[[str], str], template: str = TEMPLATE) -> None:
        config = ScriptedConfig(context_length=4096)
        super().__init__(replying(reply), byte_tokenizer(template), config)  # type: ignore[arg-type]

    def forward(self) -> None:
        raise NotImplementedError

    def head(self) -> None:
        raise NotImplementedError


def replies(reply: Callable[[str], str], template: str = TEMPLATE) -> Callable[[], LLM]:
    """Makes an LLM of such a model."""
    return lambda: LLM(Replying(reply, template), max_sequences=4, ubatch=64)  # type: ignore[arg-type]
