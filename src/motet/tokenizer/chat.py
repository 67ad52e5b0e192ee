"""A conversation as the text that a model was trained to see, by the file's own template."""

from collections.abc import Mapping, Sequence
from typing import Any

from motet.errors import TokenizerError
from motet.tokenizer.tokenizer import Tokenizer

_MAX_TEMPLATE = 1 << 17
"""Characters; the largest in use have about 30,000."""
_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message may say what the model thought; templates read the first two."""


def select(tokenizer: Tokenizer, name: str = "default") -> str:
    """The chat template called ``name`` in the model's file; TokenizerError if it has none such."""
    template = tokenizer.chat_templates.get(name)
    if template is None:
        known = ", ".join(tokenizer.chat_templates)
        raise TokenizerError(
            f"the model has no chat template {name!r}",
            hint=f"it has {known}" if known else "it may be no chat model; give it plain text",
        )
    return template


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tokenizer: Tokenizer,
    add_generation_prompt: bool = True,
) -> str:
    """``messages`` in the form of ``template``, a Jinja source.

    Each message has a "role" and a "content", both text; further entries, of what JSON can say,
    are the template's business. ``add_generation_prompt``: end where the assistant's answer begins.

    Templates see what transformers shows them: messages, add_generation_prompt, tools and
    documents (None), bos_token and the like, raise_exception, strftime_now. They run in a process
    of their own (``sandbox.py``), begun with the tokenizer's first conversation.

    Raises TokenizerError for malformed messages, a template that is malformed, refuses the
    messages, fails on them, takes too much time or memory or makes too much text, and where no
    process can be begun.
    """
    given = [_checked(message, index) for index, message in enumerate(messages)]
    if len(template) > _MAX_TEMPLATE:
        raise TokenizerError(
            f"the chat template has {len(template)} characters, at most {_MAX_TEMPLATE} are read"
        )
    return tokenizer.sandbox.render(
        template,
        given,
        add_generation_prompt=add_generation_prompt,
        tools=None,
        documents=None,
        **_token_texts(tokenizer),
    )


def encode(text: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of a rendered conversation: special tokens count, BOS comes once, EOS not at all."""
    ids = tokenizer.encode(text, add_special=False, parse_special=True)
    bos = tokenizer.bos
    if tokenizer.add_bos and bos is not None and ids[:1] != [bos]:
        return [bos, *ids]
    return ids


def _checked(message: Mapping[str, Any], index: int) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise TokenizerError(f"message {index} is a {type(message).__name__}, must be a mapping")
    for key in ("role", "content"):
        value = message.get(key)
        if not isinstance(value, str) or (key == "role" and not value):
            problem = "has no" if value is None else f"has {str(value)[:40]!r} for its"
            raise TokenizerError(f"message {index} {problem} {key!r}, must be text")
    said = {key: value for key, value in message.items() if value is not None}
    reasoning = next((said[name] for name in _REASONING if name in said), None)
    if reasoning is None:
        return said
    return {"thinking": reasoning, **said, "reasoning_content": reasoning}


def _token_texts(tokenizer: Tokenizer) -> dict[str, str]:
    ids = {
        "bos_token": tokenizer.bos,
        "eos_token": tokenizer.eos,
        "unk_token": tokenizer.unk,
        "sep_token": tokenizer.sep,
        "pad_token": tokenizer.pad,
    }
    return {
        name: tokenizer.piece(token).decode("utf-8", "replace")
        for name, token in ids.items()
        if token is not None
    }
