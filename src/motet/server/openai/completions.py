"""``/v1/completions``."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field, WithJsonSchema

from motet.async_llm import AsyncStream
from motet.engine import Chunk, Completion
from motet.engine.prompts import Prompt, encode
from motet.server.asking import TextCall, Wanted
from motet.server.failures import Refused
from motet.server.generation import chunks, guarded
from motet.server.openai.answers import (
    ChunkWriter,
    Head,
    error_event,
    head,
    usage,
    usage_so_far,
    whole,
)
from motet.server.openai.fields import GenerationBody
from motet.server.openai.logprobs import OfCompletion, joined
from motet.server.replies import dumped
from motet.server.service import CurrentService, Served, Service
from motet.server.sse import DONE, event, event_stream
from motet.server.timings import timings_of
from motet.tokenizer import Tokenizer

router = APIRouter(tags=["OpenAI"])

_MAX_TOKENS = 16
"""As OpenAI has it where nothing is said."""


def _texts_or_ids(value: Any) -> Any:
    """What is further wrong with them, the model says by place: there may be many."""
    if isinstance(value, str) or (isinstance(value, list) and value):
        return value  # pyright: ignore[reportUnknownVariableType]
    raise ValueError("give text, token ids, or a list of either, which is not empty")


TEXTS_OR_IDS: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    ]
}
"""As the page of endpoints has it."""


def _no_suffix(value: str | None) -> str | None:
    if value:
        raise ValueError("this endpoint has none; /infill completes between two texts")
    return value


class CompletionBody(GenerationBody):
    """OpenAI's fields, and some of vLLM's."""

    prompt: Annotated[Any, AfterValidator(_texts_or_ids), WithJsonSchema(TEXTS_OR_IDS)]
    echo: bool | None = None
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    best_of: Annotated[int | None, Field(description="What n is: all answers are given.")] = None
    suffix: Annotated[str | None, AfterValidator(_no_suffix)] = None
    add_special_tokens: Literal[True] | None = None

    def call(self) -> TextCall:
        """What to ask of the model. Raises Refused for fields that contradict each other."""
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise Refused(
                400,
                f"best_of is {self.best_of} for {self.n or 1} answers: all are given here, so ask"
                " for as many as n",
                param="best_of",
            )
        if self.stream and self.echo and self.logprobs is not None:
            raise Refused(400, "a stream has no logprobs of what it echoes", param="echo")
        held = self.constraint()
        wanted = Wanted(
            sampling=self.chosen(),
            max_tokens=self._most_tokens(),
            n=self.n or 1,
            stop=self.stops,
            logprobs=self.logprobs,
            grammar=held.grammar,
            json_schema=held.json_schema,
            regex=held.regex,
            prediction=self.predicted,
            max_proposed=self.max_proposed,
        )
        return TextCall(self.prompt, wanted, echo=bool(self.echo), slot=self.slot)

    def _most_tokens(self) -> int | None:
        if self.max_tokens is None:
            return _MAX_TOKENS
        return None if self.max_tokens == -1 else self.max_tokens


@router.post("/v1/completions")
async def completions(body: CompletionBody, service: CurrentService, request: Request) -> Response:
    """Continue one prompt or several."""
    served = service.text
    call = body.call()
    head_ = head(served, "text_completion", "cmpl")
    if body.stream:
        stream = await call.begun(service, request)
        return event_stream(guarded(_events(service, served, stream, head_, body), error_event))
    answers = await call.completed(service, request)
    firsts: list[int] = []
    if body.echo and body.logprobs is not None:
        firsts = await asyncio.to_thread(_first_tokens, served, call.prompts)
    took = {"timings": timings_of(answers[0])} if len(answers) == 1 else {}
    return await whole(
        head_,
        lambda: [_choice(served, each, firsts, call.wanted.n) for each in answers],
        {"usage": usage(answers, call.wanted.n), **took},
        large=body.logprobs is not None,
    )


def _first_tokens(served: Served, prompts: Sequence[Prompt]) -> list[int]:
    """Of each prompt."""
    model = served.llm.model
    return [
        encode(each, model.tokenizer, model.config.n_vocab, parse_special=True)[0]
        for each in prompts
    ]


def _choice(
    served: Served, completion: Completion, firsts: Sequence[int], n: int
) -> dict[str, Any]:
    """A whole answer; ``firsts``: the tokens that echoed prompts begin with."""
    found: dict[str, Any] | None = None
    if completion.logprobs is not None and served.llm.tokenizer is not None:
        of = OfCompletion(served.llm.tokenizer)
        parts: list[dict[str, Any]] = []
        if completion.prompt_logprobs is not None:
            rest = [each for each in completion.prompt_logprobs if each is not None]
            parts = [of.begun(firsts[completion.index // n]), of.part(rest)]
        found = joined(*parts, of.part(completion.logprobs))
    return {
        "index": completion.index,
        "text": completion.text,
        "logprobs": found,
        "finish_reason": completion.finish_reason,
    }


async def _events(
    service: Service, served: Served, stream: AsyncStream, head_: Head, body: CompletionBody
) -> AsyncGenerator[bytes, None]:
    says_usage = body.include_usage and not body.usage_in_each
    writer = _Writer(head_, served.llm.tokenizer, says_usage)
    finished: list[Completion] = []
    written = 0
    async for chunk in chunks(service, stream):
        if chunk.completion is not None:
            finished.append(chunk.completion)
        written += len(chunk.tokens)
        if chunk.text or chunk.logprobs or chunk.completion:
            spent = usage_so_far(stream, written) if body.usage_in_each else None
            yield writer.event(chunk, spent)
    if body.include_usage:
        yield writer.usage(finished, body.n or 1)
    yield DONE


class _Writer(ChunkWriter):
    """Those of a completion."""

    def __init__(self, head_: Head, tokenizer: Tokenizer | None, says_usage: bool) -> None:
        super().__init__(head_, tokenizer, says_usage)
        self._logprobs: dict[int, OfCompletion] = {}

    def event(self, chunk: Chunk, spent: dict[str, Any] | None = None) -> bytes:
        """What a chunk says; ``spent``: the usage until then, where each event is to say it."""
        logprobs = b"null"
        if chunk.logprobs and self._tokenizer is not None:
            of = self._logprobs.setdefault(chunk.index, OfCompletion(self._tokenizer))
            logprobs = dumped(of.part(chunk.logprobs))
        return b'%b%d,"text":%b,"logprobs":%b,"finish_reason":%b}]%b}\n\n' % (
            self._opening,
            chunk.index,
            dumped(chunk.text),
            logprobs,
            dumped(chunk.finish_reason),
            b',"usage":' + dumped(spent) if spent else b"",
        )

    def usage(self, finished: Sequence[Completion], n: int) -> bytes:
        """The last event, which has no choices."""
        return event({**self._fields, "choices": [], "usage": usage(finished, n)})
