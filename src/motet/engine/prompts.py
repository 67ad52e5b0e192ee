"""Prompts as callers give them, made into token ids the model has, or refused."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from motet import checks
from motet.arrays import Array, common_prefix
from motet.engine.options import GenerationOptions
from motet.errors import ContextLengthError, OptionError, TokenizerError, UnsupportedError
from motet.tokenizer import Tokenizer

Prompt = str | Sequence[int] | Array
"""Text, or token ids that are taken as they are."""
Message = Mapping[str, Any]
"""A turn of a chat: at least ``role`` and ``content``, as the model's template wants them.

The content is text, or a list of parts as the OpenAI API has them, all of type "text"; of a
message with "tool_calls" it may be None.
"""
Chat = Sequence[Message]


def as_list(value: object) -> object:
    """NumPy arrays of texts, and of rows of token ids, as lists; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    array = cast(Array, value)
    if array.ndim == 1 and array.dtype.kind in "UTO":
        return array.tolist()
    return list(array) if array.ndim == 2 and array.dtype.kind in "iu" else array


def one_or_many(
    prompt: object, what: str = "the prompt", many: str = "prompts"
) -> tuple[bool, list[Prompt]]:
    """Whether this is a single prompt, and the prompts. Raises OptionError if it is neither.

    ``what``, ``many``: what messages call it, and several.
    """
    prompt = as_list(prompt)
    if _is_prompt(prompt):
        return True, [cast(Prompt, prompt)]
    if checks.is_bytes(prompt):
        checks.text(what, prompt)
    prompts = checks.listed(what, prompt, f"{many}, or give one: text or token ids")
    for place, each in enumerate(prompts):
        if not _is_prompt(each):
            if _is_empty(each):
                raise OptionError(f"{what} {place} is empty", hint="give at least one token id")
            raise OptionError(
                f"{what} is a list with {checks.shown(each)} at {place}",
                hint="give text, token ids, or a list of either",
            )
    return False, list(prompts)


def one_or_many_chats(messages: object) -> tuple[bool, list[list[dict[str, Any]]]]:
    """Whether these are the messages of a single chat, and the chats, their contents all text.

    Raises OptionError if they are neither one chat nor a list of them, or a chat is empty.
    """
    hint = 'messages, as {"role": "user", "content": "…"}, or of chats'
    given = checks.listed("messages", messages, hint)
    if not given or isinstance(given[0], Mapping):
        return True, [_chat("messages", given)]
    chats = [checks.listed(f"messages[{i}]", each, "messages") for i, each in enumerate(given)]
    return False, [_chat(f"messages[{i}]", each) for i, each in enumerate(chats)]


def encode(
    prompt: Prompt, tokenizer: Tokenizer | None, n_vocab: int, parse_special: bool
) -> list[int]:
    """The prompt's token ids, at least one.

    Raises OptionError for an empty prompt or an id that the model does not have, UnsupportedError
    for text where there is no tokenizer.
    """
    if isinstance(prompt, str):
        if tokenizer is None:
            raise UnsupportedError(
                "the model file has no vocabulary, so text means nothing to it",
                hint="give token ids; a model's directory needs tokenizer.json or tokenizer.model",
            )
        ids = tokenizer.encode(prompt, add_special=True, parse_special=parse_special)
    else:
        ids = [int(token) for token in prompt]
    if not ids:
        raise OptionError("the prompt is empty, and the model begins with no token of its own")
    for place, token in enumerate(ids):
        if not 0 <= token < n_vocab:
            raise OptionError(
                f"token {token} at {place} of the prompt is not one of the model's {n_vocab}"
            )
    return ids


def shared_prefixes(
    prompt: Sequence[int],
    messages: Sequence[Message],
    ids: Callable[[Sequence[Message]], list[int]],
) -> tuple[int, ...]:
    """Positions where prefixes of a chat's ``prompt`` end that other chats may well share.

    ``ids``: writes messages as the prompt was written.

    Where what the system message says ends, and where what the last message says begins: so far
    the prompt is the same without it.
    """
    opening = 1 if messages and messages[0]["role"] == "system" else 0
    ends = set[int]()
    for index in {opening, len(messages) - 1} & set(range(1, len(messages))):
        silent = [*messages[:index], {**messages[index], "content": ""}]
        try:
            other = ids(silent)
        except TokenizerError:  # a template may refuse an empty message
            continue
        ends.add(common_prefix(np.asarray(prompt), np.asarray(other)))
    return tuple(sorted(ends))


def token_limit(prompt: int, wanted: int | None, context: int) -> int:
    """How many tokens an answer may have: as many as ``wanted``, or as the context has room for.

    Raises ContextLengthError when the prompt leaves no room.
    """
    room = context - prompt
    if room < (1 if wanted is None else min(wanted, 1)):
        raise ContextLengthError(
            f"the prompt has {prompt} tokens and the context holds {context}, answer included",
            tokens=prompt,
            limit=context,
            hint="shorten the prompt, or ask for a longer context",
        )
    return room if wanted is None else min(wanted, room)


def require_encodable(prompt: int, longest: int, options: GenerationOptions) -> None:
    """Raise unless an encoder that was trained for ``longest`` tokens can take the prompt.

    ContextLengthError for one that is longer, OptionError for options that mean nothing where
    answers do not go on from the prompt.
    """
    if prompt > longest:
        raise ContextLengthError(
            f"the prompt has {prompt} tokens, and the model was trained for {longest}",
            tokens=prompt,
            limit=longest,
            hint="shorten the prompt",
        )
    if options.echo:
        raise OptionError(
            "echo is True, and the model is an encoder-decoder: its answers do not go on from the"
            " prompt",
            hint="leave echo out",
        )


def _chat(name: str, messages: Sequence[object]) -> list[dict[str, Any]]:
    """Messages whose content is text, where it is given as parts."""
    if not messages:
        raise OptionError(
            f"{name} is empty", hint='give a message, as {"role": "user", "content": "…"}'
        )
    chat: list[dict[str, Any]] = []
    for i, each in enumerate(messages):
        of = 'as {"role": "user", "content": "…"}'
        message: dict[str, Any] = dict(checks.mapping(f"{name}[{i}]", each, of))
        content = message.get("content")
        if isinstance(content, list | tuple):
            parts = cast(Sequence[object], content)
            message["content"] = "\n".join(
                _part(f"{name}[{i}]['content'][{j}]", part) for j, part in enumerate(parts)
            )
        chat.append(message)
    return chat


def _part(name: str, part: object) -> str:
    """The text of a part of a message."""
    given = checks.mapping(name, part, 'as {"type": "text", "text": "…"}')
    kind = given.get("type")
    if kind != "text":
        raise OptionError(
            f"{name} is of type {checks.shown(kind)}",
            hint='models here read text alone: parts of type "text"',
        )
    return checks.text(f"{name}['text']", given.get("text"))


def _is_empty(prompt: object) -> bool:
    return isinstance(prompt, list | tuple) and not prompt


def _is_prompt(prompt: object) -> bool:
    """Whether it is text or token ids; an empty list is neither, but no prompts."""
    if isinstance(prompt, str):
        return True
    if isinstance(prompt, np.ndarray):
        ids = cast(Array, prompt)
        return ids.ndim == 1 and ids.dtype.kind in "iu"
    if not isinstance(prompt, Sequence) or checks.is_bytes(cast(object, prompt)):
        return False
    ids = checks.listed("the prompt", cast(object, prompt), "token ids")
    return len(ids) > 0 and all(
        isinstance(item, int | np.integer) and not isinstance(item, bool) for item in ids
    )
