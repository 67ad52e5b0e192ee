"""What a request for a response may say."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from motet.server.failures import Refused
from motet.server.responses.items import InputItem
from motet.server.sampling import Asked, SamplingBody
from motet.server.thinking import Effort


class FunctionTool(Asked):
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def as_chat(self) -> dict[str, Any]:
        """In the form of chat completions."""
        return {
            "type": "function",
            "function": self.model_dump(exclude={"type"}, exclude_none=True),
        }


class NamedTool(Asked):
    type: Literal["function"]
    name: str


class AllowedTools(Asked):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[NamedTool]


def _known_tool(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind is not None and kind != "function":
        hint = _WITHOUT.get(str(kind), "leave it out")
        raise ValueError(
            f"tools of type {str(kind)[:40]!r} are not supported: functions of yours alone are;"
            f" {hint}"
        )
    return value


_WITHOUT = {
    "web_search": 'Codex leaves it out with web_search = "disabled" at the top of its config.toml',
    "namespace": "Codex sends tools of MCP servers like that: leave these servers out of its"
    " config.toml",
    "custom": "declare it as a function with parameters",
    "image_generation": "Codex leaves it out with image_generation = false under [features] in its"
    " config.toml",
}
"""How clients go on that send tools of these types by themselves."""
Tool = Annotated[FunctionTool, BeforeValidator(_known_tool)]


def _known_choice(value: Any) -> Any:
    if not isinstance(value, dict):
        known = value in (None, *_MODES)
    else:
        known = value.get("type") in ("function", "allowed_tools")
    if not known:
        raise ValueError(
            f"give one of {', '.join(_MODES)}, a function as {{'type': 'function', 'name': …}}, or"
            " allowed_tools"
        )
    return value


_MODES = ("auto", "none", "required")
ToolChoice = Annotated[
    Literal["auto", "none", "required"]
    | Annotated[NamedTool | AllowedTools, Field(discriminator="type")]
    | None,
    BeforeValidator(_known_choice),
]


class TextFormat(Asked):
    type: Literal["text"]


class JsonFormat(Asked):
    type: Literal["json_object"]


class SchemaFormat(Asked):
    type: Literal["json_schema"]
    name: str
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: Annotated[bool | None, Field(description="Answers fit the schema in any case.")] = None


class TextBody(Asked):
    format: Annotated[
        TextFormat | JsonFormat | SchemaFormat | None, Field(discriminator="type")
    ] = None
    verbosity: Literal["medium"] | None = None


class ReasoningBody(Asked):
    """``summary``: there is none, for reasoning is given as it is."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class StreamOptions(Asked):
    include_obfuscation: Annotated[bool, Field(description="Changes nothing.")] = False


def _items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class ConversationBody(Asked):
    id: str


def _named_conversation(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


def _in_foreground(value: Any) -> Any:
    if value:
        raise ValueError("nothing is made in the background here: stream it")
    return value


class InputBody(SamplingBody):
    """What the model is to read."""

    model: str | None = None
    input: Annotated[tuple[InputItem, ...], BeforeValidator(_items)] = ()
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: Annotated[ConversationBody | None, BeforeValidator(_named_conversation)] = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    text: TextBody = TextBody()
    reasoning: ReasoningBody | None = None
    truncation: Literal["disabled"] | None = None

    @model_validator(mode="after")
    def _goes_on_once(self) -> "InputBody":
        if self.previous_response_id is not None and self.conversation is not None:
            raise ValueError("conversation and previous_response_id: give one of them")
        return self

    @property
    def chat_tools(self) -> tuple[list[dict[str, Any]] | None, str | Mapping[str, Any]]:
        """``tools`` and ``tool_choice`` in the form of chat completions.

        Raises Refused for a choice of a tool that there is not.
        """
        choice, tools = self.tool_choice or "auto", self.tools or []
        for named in _named(choice):
            if named not in {tool.name for tool in tools}:
                raise Refused(
                    400, f"tool_choice names {named[:80]!r}, none of the tools", param="tool_choice"
                )
        if isinstance(choice, AllowedTools):
            allowed = set(_named(choice))
            tools = [tool for tool in tools if tool.name in allowed]
            choice = choice.mode
        if isinstance(choice, NamedTool):
            choice = {"type": "function", "function": {"name": choice.name}}
        return [tool.as_chat() for tool in tools] or None, choice

    @property
    def json_schema(self) -> dict[str, Any] | None:
        """That answers are held to."""
        form = self.text.format
        if isinstance(form, JsonFormat):
            return {"type": "object"}
        return form.schema_ if isinstance(form, SchemaFormat) else None


class ResponseBody(InputBody):
    """A request for a response.

    ``metadata`` is given back. ``user``, ``safety_identifier``, ``prompt_cache_key``,
    ``prompt_cache_retention``, ``client_metadata``, ``service_tier`` and ``max_tool_calls``, which
    is about tools that servers run, change nothing.
    """

    max_output_tokens: Annotated[int | None, Field(ge=1)] = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = (
        None
    )
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    store: bool | None = True
    background: Annotated[Literal[False] | None, BeforeValidator(_in_foreground)] = False
    metadata: dict[str, str] | None = None
    max_tool_calls: int | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    client_metadata: dict[str, Any] | None = None
    service_tier: Literal["auto", "default"] | None = None
    timings_per_token: Annotated[
        bool | None, Field(description="llama-server's: say in events how long it took.")
    ] = None
    return_progress: Annotated[
        bool | None, Field(description="llama-server's: say how much of the prompt is computed.")
    ] = None

    @model_validator(mode="after")
    def _has_input(self) -> "ResponseBody":
        if not self.input and self.previous_response_id is None and self.conversation is None:
            raise ValueError("input: there is none")
        return self

    @property
    def logprobs(self) -> int | None:
        """Alternatives of each token whose log probability is asked for; None: it is not."""
        asked = "message.output_text.logprobs" in (self.include or [])
        return self.top_logprobs or 0 if asked or self.top_logprobs else None


def _named(choice: Any) -> list[str]:
    if isinstance(choice, NamedTool):
        return [choice.name]
    return [tool.name for tool in choice.tools] if isinstance(choice, AllowedTools) else []
