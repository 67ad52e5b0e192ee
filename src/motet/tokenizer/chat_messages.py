"""Messages as callers give them, made into what a chat template reads."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from motet.errors import TokenizerError, shown
from motet.tokenizer.template_traits import TemplateTraits

Message = dict[str, Any]

Spelt = Callable[[Sequence[tuple[str, Mapping[str, Any]]]], str]
"""Calls, by name and arguments, as their model writes them."""

_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message may say what the model thought; templates read the first two."""


def checked(message: Mapping[str, Any], index: int) -> Message:
    """A message that has a role and, unless it calls tools, a content, both text."""
    if not isinstance(message, Mapping):
        raise TokenizerError(f"message {index} is a {type(message).__name__}, must be a mapping")
    for key in ("role", "content"):
        value = message.get(key)
        if key == "content" and value is None and message.get("tool_calls"):
            continue
        if not isinstance(value, str) or (key == "role" and not value):
            problem = "has no" if value is None else f"has {str(value)[:40]!r} for its"
            raise TokenizerError(f"message {index} {problem} {key!r}, must be text")
    said = {key: value for key, value in message.items() if value is not None}
    reasoning = next((said[name] for name in _REASONING if name in said), None)
    if reasoning is None:
        return said
    return {"thinking": reasoning, **said, "reasoning_content": reasoning}


def adapted(
    messages: Sequence[Message], traits: TemplateTraits, spelt: Spelt | None = None
) -> list[Message]:
    """Messages with what OpenAI's clients write in the form that the template takes.

    Arguments of calls become a dictionary or JSON text, ids what the template allows, a message
    that says and calls (and thinks) two where one would lose either; results get their tool's name,
    and the role "developer" is "system" where the template does not know it. ``spelt``: how calls
    are part of what is said, where the template has no place for them.

    Raises TokenizerError for calls that are malformed, and where the template has no place for
    calls, for several at once or for results.
    """
    made: list[Message] = []
    ids = _Ids(traits)
    for index, message in enumerate(messages):
        if message.get("tool_calls"):
            made += _calling(message, index, traits, ids, spelt)
        elif message["role"] == "tool":
            made.append(_result(message, index, traits, ids))
        elif message["role"] == "developer" and not traits.knows_developer:
            made.append({**message, "role": "system"})
        else:
            made.append(message)
    return made


def _calling(
    message: Message, index: int, traits: TemplateTraits, ids: "_Ids", spelt: Spelt | None
) -> list[Message]:
    """A message with calls, which are noted in ``ids``."""
    given = message["tool_calls"]
    if not isinstance(given, list | tuple):
        raise TokenizerError(f"message {index} has {shown(given)} for its 'tool_calls'")
    if traits.arguments_are_text is None and spelt is None:
        raise TokenizerError(
            f"message {index} calls a tool, and this model's chat template has no place for calls"
        )
    calls = [_call(call, index, traits, ids) for call in given]
    if traits.arguments_are_text is None and spelt is not None:
        functions = [call["function"] for call in calls]
        text = spelt([(each["name"], each["arguments"]) for each in functions])
        said = {key: value for key, value in message.items() if key != "tool_calls"}
        return [{**said, "content": f"{message.get('content') or ''}{text}"}]
    if len(calls) > 1 and traits.loses_calls:
        raise TokenizerError(
            f"message {index} has {len(calls)} calls, and this model's chat template shows one of a"
            " message",
            hint="give each call a message of its own, and its result behind it",
        )
    silent = {**message, "content": traits.silence, "tool_calls": calls}
    if not message.get("content"):
        return [silent]
    thinks = any(name in message for name in _REASONING)
    if traits.says_and_calls and (not thinks or traits.thinks_says_and_calls):
        return [{**message, "tool_calls": calls}]
    said = {key: value for key, value in message.items() if key != "tool_calls"}
    if traits.says_and_calls:  # a template that keeps thoughts keeps them where a call follows
        return [_without_thought(said), silent]
    return [said, _without_thought(silent)]


def _without_thought(message: Message) -> Message:
    return {key: value for key, value in message.items() if key not in _REASONING}


def _call(call: Any, index: int, traits: TemplateTraits, ids: "_Ids") -> Message:
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise TokenizerError(
            f"message {index} has {shown(call)} among its 'tool_calls'",
            hint='give {"id": "…", "type": "function", "function": {"name": …, "arguments": …}}',
        )
    if not isinstance(name, str) or not name:
        raise TokenizerError(f"message {index} calls a tool named {shown(name)}, must be text")
    arguments = _arguments(function.get("arguments"), index, name, bool(traits.arguments_are_text))
    made = {**call, "type": "function", "function": {**function, "arguments": arguments}}
    written = ids.of_call(call.get("id"), name)
    return made if written is None else {**made, "id": written}


def _arguments(given: Any, index: int, name: str, as_text: bool) -> str | dict[str, Any]:
    """A call's arguments as the template wants them."""
    found = given
    if isinstance(given, str):
        try:
            found = json.loads(given) if given.strip() else {}
        except (ValueError, RecursionError):
            found = None
    if given is None:
        found = {}
    if not isinstance(found, Mapping):
        raise TokenizerError(
            f"message {index} calls {name!r} with the arguments {shown(given)}",
            hint="give an object, or its JSON text",
        )
    if not as_text:
        return dict(found)
    if isinstance(given, str) and given.strip():
        return given
    try:
        return json.dumps(found, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TokenizerError(
            f"message {index} calls {name!r} with what JSON cannot say: {error}"
        ) from error


def _result(message: Message, index: int, traits: TemplateTraits, ids: "_Ids") -> Message:
    if not traits.shows_results:
        raise TokenizerError(
            f"message {index} is a tool's result, and this model's chat template has no place for"
            " results"
        )
    called = message.get("tool_call_id")
    if not isinstance(called, str):
        return message
    name = ids.names.get(called)
    named = {"name": name} if name is not None and "name" not in message else {}
    return {**message, **named, "tool_call_id": ids.of_result(called)}


class _Ids:
    """Ids of a conversation's calls, as its template takes them."""

    def __init__(self, traits: TemplateTraits) -> None:
        self._traits = traits
        self._calls = 0
        self._written: dict[str, str] = {}
        """By the ids that callers give, and so are the tools' ``names``."""
        self.names: dict[str, str] = {}

    def of_call(self, given: object, name: str) -> str | None:
        """Of the next call; None where it is given none, and the template needs none."""
        number = self._calls
        self._calls += 1
        if not isinstance(given, str):
            return f"functions.{name}:{number}" if self._traits.numbered_ids else None
        written = self._shortened(given)
        if self._traits.numbered_ids:
            own = re.fullmatch(rf"functions\.{re.escape(name)}:[0-9]+", given)
            written = given if own else f"functions.{name}:{number}"
        self.names[given], self._written[given] = name, written
        return written

    def of_result(self, given: str) -> str:
        """Of the call that was given this one."""
        return self._written.get(given) or self._shortened(given)

    def _shortened(self, given: str) -> str:
        short = len(given) == 9 and given.isascii() and given.isalnum()
        if short or not self._traits.short_ids:
            return given
        return sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:9]
