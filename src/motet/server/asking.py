"""What endpoints ask of the model that writes, whichever API the request came by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import Request

from motet.async_llm import AsyncStream
from motet.engine import AsyncConversation, Completion
from motet.engine.options import AnswerFields
from motet.engine.prompts import Prompt
from motet.errors import ContextLengthError
from motet.sampling import SamplingFields
from motet.server.failures import Refused
from motet.server.generation import begun, client_of, completed
from motet.server.service import Service

_MOST_STOPS = 256
"""Each is looked for in what each token adds, while everybody waits."""
_FEW_IDS = 10_000
"""Which take no time to look at, so that what else is wrong with them is said."""


@dataclass(frozen=True)
class Wanted:
    """Of every answer: the arguments of ``LLM.generate`` and ``LLM.chat``."""

    sampling: SamplingFields = field(default_factory=SamplingFields)
    max_tokens: int | None = None
    n: int = 1
    stop: Sequence[str] = ()
    logprobs: int | None = None
    grammar: str | None = None
    json_schema: Mapping[str, Any] | str | bool | None = None
    regex: str | None = None
    prediction: str | None = None
    max_proposed: int | None = None

    def __post_init__(self) -> None:
        if len(self.stop) > _MOST_STOPS:
            raise Refused(
                400,
                f"there are {len(self.stop)} stop strings; at most {_MOST_STOPS} are taken",
                param="stop",
            )

    def most_tokens(self, service: Service) -> int | None:
        """Of an answer: what the request says, or else the server."""
        return service.settings.max_tokens if self.max_tokens is None else self.max_tokens

    def fields(
        self,
        service: Service,
        request: Request,
        slot: int | None,
        conversation: AsyncConversation | None = None,
    ) -> AnswerFields:
        """As the model is given them, with what the server says beside the request."""
        return AnswerFields(
            max_tokens=self.most_tokens(service),
            stop=self.stop or None,
            logprobs=self.logprobs,
            grammar=self.grammar,
            json_schema=self.json_schema,
            regex=self.regex,
            prediction=self.prediction,
            max_proposed=self.max_proposed,
            slot=slot,
            conversation=conversation,
            client=client_of(request),
            timeout=service.settings.timeout,
            **self.sampling,
        )


@dataclass(frozen=True)
class TextCall:
    """Continue one prompt or several."""

    prompt: Prompt | Sequence[Prompt]
    wanted: Wanted = field(default_factory=Wanted)
    echo: bool = False
    slot: int | None = None

    async def completed(self, service: Service, request: Request) -> list[Completion]:
        """All answers. Raises ClientLeft where nobody waits for them, and what the model does."""
        return await completed(service, request, self._ask(service, request, stream=False))

    async def begun(self, service: Service, request: Request) -> AsyncStream:
        """A stream whose requests are handed in. Raises what refuses them."""
        return await begun(self._ask(service, request, stream=True))

    @property
    def prompts(self) -> Sequence[Prompt]:
        """One or many, as a list."""
        return cast(Sequence[Prompt], [self.prompt] if _is_one(self.prompt) else self.prompt)

    def _ask(self, service: Service, request: Request, *, stream: bool) -> Any:
        wanted = self.wanted
        served = service.text
        limit = served.context_length
        for prompt in self.prompts:
            _require_short(prompt, limit)
        return served.llm.generate(
            self.prompts,
            n=wanted.n,
            echo=self.echo,
            stream=stream,
            **wanted.fields(service, request, self.slot),
        )


@dataclass(frozen=True)
class ChatCall:
    """Answer a conversation; messages and tools in OpenAI's form."""

    messages: Sequence[Mapping[str, Any]]
    wanted: Wanted = field(default_factory=Wanted)
    tools: Sequence[Mapping[str, Any]] | None = None
    tool_choice: str | Mapping[str, Any] = "auto"
    parallel_tool_calls: bool = True
    template_options: Mapping[str, Any] | None = None
    continues: bool = False
    """Whether the answer goes on from the last message, which is the assistant's."""
    slot: int | None = None
    conversation: AsyncConversation | None = None

    async def completed(self, service: Service, request: Request) -> list[Completion]:
        """All answers. Raises ClientLeft where nobody waits for them, and what the model does."""
        return await completed(service, request, self._ask(service, request, stream=False))

    async def begun(self, service: Service, request: Request) -> AsyncStream:
        """A stream whose requests are handed in. Raises what refuses them."""
        return await begun(self._ask(service, request, stream=True))

    async def prompt_tokens(self, service: Service) -> int:
        """How many tokens the model would read. Raises what refuses the messages."""
        return len(await self.prompt_ids(service))

    async def prompt_ids(self, service: Service) -> list[int]:
        """The tokens that the model reads. Raises what refuses the messages."""
        llm = service.text.llm
        options = self._options(service)
        return await llm.chat_prompt(
            self.messages,
            tools=self.tools,
            template_options=options,
            continue_final_message=self.continues,
        )

    def _options(self, service: Service) -> dict[str, Any]:
        """What the template is told, by the server and by the request."""
        return {**service.settings.template_options, **(self.template_options or {})}

    def _ask(self, service: Service, request: Request, *, stream: bool) -> Any:
        wanted = self.wanted
        return service.text.llm.chat(
            [self.messages],
            tools=self.tools,
            tool_choice=self.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
            template_options=self._options(service),
            continue_final_message=self.continues,
            n=wanted.n,
            stream=stream,
            **wanted.fields(service, request, self.slot, self.conversation),
        )


def _is_one(prompt: Prompt | Sequence[Prompt]) -> bool:
    """Whether it is text or token ids, not a list of such."""
    return isinstance(prompt, str) or (len(prompt) > 0 and isinstance(prompt[0], int))


def _require_short(prompt: Prompt, limit: int) -> None:
    """Refuse token ids that are far too many before each of them is looked at."""
    if isinstance(prompt, list) and len(prompt) > max(limit, _FEW_IDS):
        raise ContextLengthError(
            f"the prompt has {len(prompt)} tokens and the context holds {limit}, answer included",
            tokens=len(prompt),
            limit=limit,
            hint="shorten the prompt",
        )
