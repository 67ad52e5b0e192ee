"""Items, which a response's input and output consist of, and the chat that they are."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BeforeValidator, Field, TypeAdapter

from motet.server.parts import content_of, parts, text_of
from motet.server.sampling import Asked

State = Literal["in_progress", "completed", "incomplete"] | None
"""An item's; it changes nothing."""


class InputText(Asked):
    type: Literal["input_text"]
    text: str


class OutputText(Asked):
    """``annotations`` and ``logprobs`` of an earlier response change nothing."""

    type: Literal["output_text"]
    text: str
    annotations: tuple[Any, ...] = ()
    logprobs: list[Any] | None = None


class Refusal(Asked):
    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


Said = Annotated[InputText | OutputText | Refusal, Field(discriminator="type")]


class Message(Asked):
    """``phase``, which part of a turn it is, changes nothing: no chat template knows it."""

    type: Literal["message"]
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[list[Said], parts("input_text")]
    id: str | None = None
    status: State = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(Asked):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: State = None


class FunctionCallOutput(Asked):
    type: Literal["function_call_output"]
    call_id: str
    output: Annotated[list[InputText], parts("input_text")]
    id: str | None = None
    status: State = None


class ReasoningText(Asked):
    type: Literal["reasoning_text"]
    text: str


class SummaryText(Asked):
    type: Literal["summary_text"]
    text: str


def _readable(value: Any) -> Any:
    if value:
        raise ValueError(
            "no model here can read what another one thought and encrypted: leave this item out"
        )


class Reasoning(Asked):
    type: Literal["reasoning"]
    id: str | None = None
    summary: tuple[SummaryText, ...] = ()
    content: tuple[ReasoningText, ...] | None = None
    encrypted_content: Annotated[None, BeforeValidator(_readable)] = None
    status: State = None

    @property
    def text(self) -> str:
        """What was thought; a summary, of a model elsewhere, where that is all there is."""
        return "".join(part.text for part in self.content or self.summary)


class Reference(Asked):
    """An item of a response that is stored."""

    type: Literal["item_reference"]
    id: str


def _typed(value: Any) -> Any:
    """With the type that the API lets messages and references go without."""
    if not isinstance(value, dict) or value.get("type") is not None:
        return value
    return {**value, "type": "message" if "role" in value else "item_reference"}


Item = Message | FunctionCall | FunctionCallOutput | Reasoning
InputItem = Annotated[
    Annotated[Item | Reference, Field(discriminator="type")], BeforeValidator(_typed)
]
_READ = TypeAdapter[Item](Annotated[Item, Field(discriminator="type")])


def read_item(item: dict[str, Any]) -> Item:
    """An item of a response's output."""
    return _READ.validate_python(item)


_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}


def new_id(kind: str) -> str:
    """For an item of type ``kind``."""
    return f"{_PREFIXES[kind]}_{uuid4().hex}"


def named(item: Item) -> Item:
    """With an id, and complete."""
    return item.model_copy(
        update={"id": item.id or new_id(item.type), "status": item.status or "completed"}
    )


def shown(item: Item) -> dict[str, Any]:
    """As the API lists it."""
    entry = item.model_dump(exclude_none=True)
    if isinstance(item, FunctionCallOutput) and len(item.output) == 1:
        entry["output"] = item.output[0].text
    return entry


def chat_of(items: Iterable[Item]) -> list[dict[str, Any]]:
    """The messages of a chat. What the assistant thought, said and called is one of them."""
    messages: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for item in items:
        if isinstance(item, Message) and item.role != "assistant":
            role = "user" if item.role == "user" else "system"
            content = content_of([part.text for part in item.content])
            messages.append({"role": role, "content": content})
        elif isinstance(item, FunctionCallOutput):
            content = content_of([part.text for part in item.output])
            message = {"role": "tool", "tool_call_id": item.call_id, "content": content}
            if item.call_id in names:
                message["name"] = names[item.call_id]
            messages.append(message)
        else:
            _add(_turn(messages, item), item)
            if isinstance(item, FunctionCall):
                names[item.call_id] = item.name
    return messages


def instructed(
    messages: Sequence[Mapping[str, Any]], instructions: str | None
) -> list[Mapping[str, Any]]:
    """With instructions before them.

    These and the system messages that the chat begins with are one, for templates know a single
    one.
    """
    leading = list(takewhile(lambda message: message["role"] == "system", messages))
    system = [instructions] if instructions else []
    system += [text_of(message["content"]) for message in leading]
    rest = list(messages[len(leading) :])
    if not system:
        return rest
    return [{"role": "system", "content": "\n\n".join(system)}, *rest]


def _turn(messages: list[dict[str, Any]], item: Message | FunctionCall | Reasoning) -> Any:
    """The assistant's message that an item of its belongs to: the last one, or one to begin."""
    last = messages[-1] if messages else {}
    done = bool(last.get("content")) or "tool_calls" in last
    if isinstance(item, FunctionCall):
        done = False
    if last.get("role") != "assistant" or done:
        last = {"role": "assistant", "content": ""}
        messages.append(last)
    return last


def _add(turn: dict[str, Any], item: Message | FunctionCall | Reasoning) -> None:
    if isinstance(item, Reasoning):
        if item.text:
            turn["reasoning_content"] = turn.get("reasoning_content", "") + item.text
    elif isinstance(item, FunctionCall):
        function = {"name": item.name, "arguments": item.arguments}
        call = {"id": item.call_id, "type": "function", "function": function}
        turn.setdefault("tool_calls", []).append(call)
    else:
        turn["content"] = content_of([part.text for part in item.content])
