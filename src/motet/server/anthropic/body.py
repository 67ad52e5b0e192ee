"""What a request for a message may say."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from motet.server.anthropic.blocks import (
    Cacheable,
    CacheControl,
    Message,
    Texts,
    ToolUse,
    misplaced,
)
from motet.server.sampling import Asked, SamplingBody
from motet.server.thinking import Effort


class Tool(Cacheable):
    """``strict`` and ``eager_input_streaming`` change nothing: arguments fit the schema in any
    case, and are streamed as they are written."""

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    defer_loading: Literal[False] | None = None
    allowed_callers: list[Literal["direct"]] | None = None

    def as_chat(self) -> dict[str, Any]:
        """In the form of chat completions."""
        function: dict[str, Any] = {"name": self.name, "parameters": self.input_schema}
        if self.description is not None:
            function["description"] = self.description
        return {"type": "function", "function": function}


def _known_tool(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in (None, "custom"):
        raise ValueError(
            f"tools of type {str(kind)[:40]!r} are not supported: tools of yours alone are"
        )
    return value


class ToolChoice(Asked):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False

    @model_validator(mode="after")
    def _named(self) -> "ToolChoice":
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("a name is for the type 'tool', which needs one")
        return self


class ThinkingBody(Asked):
    """``budget_tokens``: what there is of thought is bounded by max_tokens alone."""

    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Annotated[int | None, Field(ge=0)] = None
    display: Literal["summarized"] | None = None


class SchemaFormat(Asked):
    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Asked):
    effort: Effort | None = None
    format: SchemaFormat | None = None


class KeptThinking(Asked):
    """What clients ask for that want all thoughts read, as they are in any case."""

    type: Literal["clear_thinking_20251015"]
    keep: Literal["all"]


class ContextManagement(Asked):
    edits: tuple[KeptThinking, ...] = ()


class Metadata(Asked):
    user_id: str | None = None


class PromptBody(SamplingBody):
    """What the model is to read. ``cache_control`` changes nothing, nor does ``speed``."""

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)]
    system: Texts | None = None
    tools: list[Annotated[Tool, BeforeValidator(_known_tool)]] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingBody | None = None
    output_config: OutputConfig = OutputConfig()
    cache_control: CacheControl | None = None
    context_management: ContextManagement | None = None
    speed: Literal["standard"] | None = None
    thread: Any = None

    @model_validator(mode="after")
    def _placed(self) -> "PromptBody":
        for place, message in enumerate(self.messages):
            if kind := misplaced(message):
                raise ValueError(
                    f"messages.{place}: the {message.role}'s messages have no {kind} blocks"
                )
        if self.continues and any(isinstance(each, ToolUse) for each in self.messages[-1].content):
            raise ValueError(
                "messages: the last one calls tools; end with their results, or with text to go on"
            )
        return self

    @property
    def continues(self) -> bool:
        """Whether the last message is what the assistant began to say."""
        return self.messages[-1].role == "assistant"

    @property
    def chat_choice(self) -> str | Mapping[str, Any]:
        """``tool_choice`` in the form of chat completions."""
        choice = self.tool_choice
        if choice is None:
            return "auto"
        if choice.type == "tool":
            return {"type": "function", "function": {"name": choice.name}}
        return {"any": "required"}.get(choice.type, choice.type)


class MessageBody(PromptBody):
    """A request for a message. ``metadata`` and ``service_tier`` change nothing."""

    max_tokens: Annotated[int, Field(ge=1)]
    stop_sequences: tuple[str, ...] = ()
    stream: bool = False
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
