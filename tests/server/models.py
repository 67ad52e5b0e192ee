"""The shipped models, as tests serve them."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import motet
from motet import LLM

DATA = Path(motet.__file__).parent / "data"
TINY = DATA / "motet-tiny.gguf"
EMBEDDING = DATA / "motet-tiny-embedding.gguf"
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def tiny(**options: Any) -> LLM:
    return LLM(TINY, **options)


def chatting(template: str = TEMPLATE, **options: Any) -> LLM:
    """The tiny model, as though its file had a chat template."""
    llm = tiny(**options)
    assert llm.tokenizer is not None
    llm.tokenizer.chat_templates = MappingProxyType({"default": template})
    return llm


def embedding() -> LLM:
    return LLM(EMBEDDING)
