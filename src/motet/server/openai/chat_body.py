"""A request for a chat completion."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from motet.server.asking import ChatCall, Wanted
from motet.server.conversations.registry import Turn
from motet.server.failures import Refused
from motet.server.openai.fields import GenerationBody
from motet.server.parts import texts_alone
from motet.server.sampling import Asked
from motet.server.service import Served
from motet.server.thinking import Effort, thinking_options


class Part(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str
    text: str | None = None


class Message(BaseModel):
    """A turn; what it says beside these fields is the chat template's business."""

    model_config = ConfigDict(extra="allow")

    role: Annotated[str, Field(min_length=1)]
    content: Annotated[
        str | Annotated[list[Part], Field(fail_fast=True)] | None, BeforeValidator(texts_alone)
    ] = None


class Function(Asked):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Asked):
    type: Literal["function"]
    function: Function


class Conversation(Asked):
    id: str


def continues(
    messages: Sequence[Mapping[str, Any]], asked: bool | None, opens: bool | None
) -> bool:
    """Whether a chat's last message is what the assistant began to say.

    ``asked``: what ``continue_final_message`` says; None is for the assistant's text, as
    llama-server has it. ``opens``: likewise ``add_generation_prompt``.

    Raises Refused for fields that contradict each other, and where it is not said which of two
    messages of the assistant is continued.
    """
    if asked and opens:
        raise Refused(
            400,
            "add_generation_prompt and continue_final_message are both true",
            param="continue_final_message",
        )
    if asked is not None:
        return asked
    if not messages or messages[-1].get("role") != "assistant" or messages[-1].get("tool_calls"):
        return False
    if len(messages) > 1 and messages[-2].get("role") == "assistant":
        raise Refused(
            400,
            "the last two messages are the assistant's: say whether to continue_final_message",
            param="messages",
        )
    return True


class ChatBody(GenerationBody):
    """OpenAI's fields, and some of vLLM's and of llama-server's."""

    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=10_000)]
    tools: Annotated[list[Tool], Field(fail_fast=True)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_completion_tokens: Annotated[int | None, Field(ge=-1)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    reasoning_effort: Effort | None = None
    conversation: Annotated[
        str | Conversation | None,
        Field(description="The messages come after this conversation's, and become part of it."),
    ] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None, Field(description="Variables of the chat template.")
    ] = None
    reasoning_format: Literal["auto", "deepseek"] | None = None
    modalities: list[Literal["text"]] | None = None
    verbosity: Literal["medium"] | None = None
    timings_per_token: Annotated[
        bool | None, Field(description="llama-server's: say in each event how long it took.")
    ] = None
    verbose: Annotated[
        bool | None, Field(description="llama-server's: say what the model read.")
    ] = None
    return_progress: Annotated[
        bool | None, Field(description="llama-server's: say how much of the prompt is computed.")
    ] = None
    add_generation_prompt: bool | None = None
    add_special_tokens: Literal[False] | None = None
    continue_final_message: Annotated[
        bool | None,
        Field(description="Go on from the last message; left out: if it is the assistant's."),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _newer_names(cls, body: Any) -> Any:
        if isinstance(body, dict):
            for old, new in (("functions", "tools"), ("function_call", "tool_choice")):
                if body.get(old) is not None:  # pyright: ignore[reportUnknownMemberType]
                    raise ValueError(f"{old} is OpenAI's former name; give {new}")
        return body  # pyright: ignore[reportUnknownVariableType]

    def said(self) -> list[dict[str, Any]]:
        """The messages."""
        return [message.model_dump(exclude_unset=True) for message in self.messages]

    def call(self, served: Served, turn: Turn | None = None) -> ChatCall:
        """What to ask of the model, as the next ``turn`` of a conversation, if it is one.

        Raises Refused for fields that contradict each other.
        """
        held = self.constraint()
        continues = self._continues()
        before = [] if turn is None else turn.messages
        return ChatCall(
            [*before, *self.said()],
            Wanted(
                sampling=self.chosen(),
                max_tokens=self._most_tokens(),
                n=self.n or 1,
                stop=self.stops,
                logprobs=self._top(),
                grammar=held.grammar,
                json_schema=held.json_schema,
                regex=held.regex,
                prediction=self.predicted,
                max_proposed=self.max_proposed,
            ),
            tools=[tool.model_dump(exclude_none=True) for tool in self.tools or ()] or None,
            tool_choice=self.tool_choice or "auto",
            parallel_tool_calls=self.parallel_tool_calls is not False,
            template_options=self._template_options(served),
            continues=continues,
            slot=self.slot,
            conversation=None if turn is None else turn.conversation,
        )

    @property
    def conversation_id(self) -> str | None:
        """Of the conversation that this is a turn of. Raises Refused for several answers."""
        if self.conversation is not None and self.n not in (None, 1):
            raise Refused(400, f"n is {self.n}, and a turn has one answer", param="n")
        if isinstance(self.conversation, Conversation):
            return self.conversation.id
        return self.conversation

    def _continues(self) -> bool:
        """Whether the answer goes on from the last message. Raises as ``call``."""
        found = continues(self.said(), self.continue_final_message, self.add_generation_prompt)
        if not found and self.add_generation_prompt is False:
            raise Refused(
                400,
                "add_generation_prompt is false, and no message is continued: answers begin with"
                " that prompt",
                param="add_generation_prompt",
            )
        if found and self.conversation is not None:
            raise Refused(
                400,
                "the last message is the assistant's, and a turn of a conversation begins with"
                " another's; with continue_final_message: false it is taken as whole",
                param="continue_final_message",
            )
        return found

    def _most_tokens(self) -> int | None:
        newer, older = self.max_completion_tokens, self.max_tokens
        if newer is not None and older is not None and newer != older:
            raise Refused(
                400,
                f"max_completion_tokens is {newer}, but max_tokens is {older}",
                param="max_completion_tokens",
            )
        given = older if newer is None else newer
        return None if given == -1 else given

    def _top(self) -> int | None:
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs:
            raise Refused(400, "top_logprobs without logprobs: true", param="top_logprobs")
        return None

    def _template_options(self, served: Served) -> dict[str, Any] | None:
        effort = thinking_options(served, "reasoning_effort", effort=self.reasoning_effort)
        return {**(effort or {}), **(self.chat_template_kwargs or {})} or None
