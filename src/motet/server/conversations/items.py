"""Items of a conversation, as OpenAI's API has them, and the messages that a model reads."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from pydantic import Discriminator, Tag

from motet.server.sampling import Asked

Message = Mapping[str, Any]
"""In the form of OpenAI's chat completions."""


class Part(Asked):
    """A part of a message's content."""

    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    """Changes nothing, as ids and the status do: clients send back what they were given."""
    logprobs: list[Any] | None = None


class MessageItem(Asked):
    """What somebody said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    id: str | None = None
    status: str | None = None


class FunctionCall(Asked):
    """What the model asked of a tool."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None


class FunctionCallOutput(Asked):
    """What the tool said."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[Part]
    id: str | None = None
    status: str | None = None


def _type(item: object) -> str:
    if isinstance(item, Mapping):
        return str(cast(Mapping[str, object], item).get("type", "message"))
    return str(getattr(item, "type", "message"))


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")],
    Discriminator(_type),
]


@dataclass(frozen=True)
class Said:
    """A message of a conversation."""

    message: dict[str, Any]
    id: str = field(default_factory=lambda: "msg_" + secrets.token_hex(16))


def messages_of(items: Sequence[MessageItem | FunctionCall | FunctionCallOutput]) -> list[Said]:
    """The messages that items are; calls that follow each other are one message."""
    said: list[Said] = []
    for item in items:
        if isinstance(item, MessageItem):
            role = "system" if item.role == "developer" else item.role
            said.append(Said({"role": role, "content": _text(item.content)}))
        elif isinstance(item, FunctionCallOutput):
            content = _text(item.output)
            said.append(Said({"role": "tool", "tool_call_id": item.call_id, "content": content}))
        else:
            function = {"name": item.name, "arguments": item.arguments}
            call = {"id": item.call_id, "type": "function", "function": function}
            if said and said[-1].message.get("tool_calls"):
                said[-1].message["tool_calls"].append(call)
            else:
                said.append(Said({"role": "assistant", "content": None, "tool_calls": [call]}))
    return said


def items_of(said: Sequence[Said]) -> list[dict[str, Any]]:
    """Messages as items of OpenAI's API, in order."""
    return [item for each in said for item in _items(each)]


def _items(said: Said) -> list[dict[str, Any]]:
    message, done = said.message, {"status": "completed"}
    content = message.get("content")
    if message["role"] == "tool":
        output = {"call_id": message.get("tool_call_id"), "output": content}
        return [{"type": "function_call_output", "id": said.id, **output, **done}]
    items: list[dict[str, Any]] = []
    if content or not message.get("tool_calls"):
        written = message["role"] == "assistant"
        part: dict[str, Any] = {"type": "output_text" if written else "input_text"}
        part["text"] = content if isinstance(content, str) else _joined(content)
        if written:
            part["annotations"] = []
        head = {"type": "message", "id": said.id, "role": message["role"]}
        items.append({**head, "content": [part], **done})
    for number, call in enumerate(message.get("tool_calls") or ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        facts = {"call_id": call.get("id"), "name": name, "arguments": arguments}
        items.append({"type": "function_call", "id": f"{said.id}_{number}", **facts, **done})
    return items


def _text(content: str | list[Part]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _joined(content: Any) -> str:
    return "\n".join(part.get("text", "") for part in content or ())
