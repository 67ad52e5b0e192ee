"""Blocks, which messages consist of, and the chat that they are."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field

from motet.server.parts import content_of, parts
from motet.server.sampling import Asked


class CacheControl(Asked):
    """Changes nothing: every prefix is looked for in memory."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None
    scope: str | None = None


class Cacheable(Asked):
    cache_control: CacheControl | None = None


class Text(Cacheable):
    type: Literal["text"]
    text: str
    citations: None = None


class Thinking(Asked):
    """``signature``: nothing is signed here, so none is verified."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class Direct(Asked):
    """That the model itself called a tool, not a program that it wrote."""

    type: Literal["direct"]


class ToolUse(Cacheable):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    caller: Direct | None = None


class ToolResult(Cacheable):
    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[tuple[Text, ...], parts("text")] = ()
    is_error: bool | None = None


def _readable(value: Any) -> Any:
    kind = cast(Mapping[str, Any], value).get("type") if isinstance(value, dict) else None
    if kind == "redacted_thinking":
        raise ValueError(
            "no model here can read what another one thought and encrypted: leave this block out"
        )
    return value


Block = Annotated[
    Annotated[Text | Thinking | ToolUse | ToolResult, Field(discriminator="type")],
    BeforeValidator(_readable),
]


class Message(Asked):
    role: Literal["user", "assistant"]
    content: Annotated[list[Block], parts("text")]


Texts = Annotated[list[Text], parts("text")]


def chat_of(messages: Iterable[Message], system: Sequence[Text] | None) -> list[dict[str, Any]]:
    """The messages of a chat. Those of one role that follow each other are one.

    Results of tools are messages of their own, and come before what the user says beside them.
    """
    chat: list[dict[str, Any]] = []
    if system:
        chat.append({"role": "system", "content": content_of([part.text for part in system])})
    names: dict[str, str] = {}
    for role, blocks in _turns(messages):
        texts = [block.text for block in blocks if isinstance(block, Text)]
        calls = [block for block in blocks if isinstance(block, ToolUse)]
        results = [block for block in blocks if isinstance(block, ToolResult)]
        if role == "user":
            chat += [_result(block, names) for block in results]
            if texts or not results:
                chat.append({"role": "user", "content": content_of(texts or [""])})
            continue
        names |= {call.id: call.name for call in calls}
        turn: dict[str, Any] = {"role": "assistant", "content": content_of(texts or [""])}
        thoughts = [block.thinking for block in blocks if isinstance(block, Thinking)]
        if any(thoughts):
            turn["reasoning_content"] = "".join(thoughts)
        if calls:
            turn["tool_calls"] = [_call(call) for call in calls]
        chat.append(turn)
    return chat


def misplaced(message: Message) -> str | None:
    """The type of a block that messages of this role have none of."""
    wrong = (Thinking, ToolUse) if message.role == "user" else (ToolResult,)
    return next((block.type for block in message.content if isinstance(block, wrong)), None)


def _turns(messages: Iterable[Message]) -> list[tuple[str, list[Block]]]:
    turns: list[tuple[str, list[Block]]] = []
    for message in messages:
        if turns and turns[-1][0] == message.role:
            turns[-1][1].extend(message.content)
        else:
            turns.append((message.role, list(message.content)))
    return turns


def _call(call: ToolUse) -> dict[str, Any]:
    arguments = json.dumps(call.input, ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _result(block: ToolResult, names: dict[str, str]) -> dict[str, Any]:
    texts = [part.text for part in block.content] or [""]
    if block.is_error:
        texts[0] = f"Error: {texts[0]}"
    message = {"role": "tool", "tool_call_id": block.tool_use_id, "content": content_of(texts)}
    if block.tool_use_id in names:
        message["name"] = names[block.tool_use_id]
    return message
