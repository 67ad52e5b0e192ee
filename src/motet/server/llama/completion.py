"""/completion and /infill: prompts continued, in llama-server's form."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from motet.async_llm import AsyncStream
from motet.engine import Chunk
from motet.server.asking import TextCall
from motet.server.failures import Failure
from motet.server.generation import chunks, guarded
from motet.server.llama.answers import Form
from motet.server.llama.fields import CompletionBody
from motet.server.llama.infill import infill_prompt
from motet.server.llama.prompts import prompts_of, vocabulary
from motet.server.replies import reply
from motet.server.sampling import Asked
from motet.server.service import CurrentService, Service
from motet.server.sse import event, event_stream
from motet.server.watching import Clock, watched

router = APIRouter(tags=["llama-server"])


class Extra(Asked):
    """A file that tells more about the code that is completed."""

    filename: str
    text: str


class InfillBody(CompletionBody):
    """What /infill is asked: the middle between ``input_prefix`` and ``input_suffix``."""

    prompt: Annotated[str, Field(description="How the middle begins.")] = ""
    input_prefix: str
    input_suffix: str
    input_extra: list[Extra] = Field(default_factory=list[Extra])


@router.post("/completion")
@router.post("/completions", include_in_schema=False)
async def completion(body: CompletionBody, request: Request, service: CurrentService) -> Response:
    """Continue a prompt, or each of several."""
    model = service.text.llm.model
    prompts = await asyncio.to_thread(prompts_of, body.prompt, model)
    return await _answered(body, prompts, request, service)


@router.post("/infill")
async def infill(body: InfillBody, request: Request, service: CurrentService) -> Response:
    """Complete code between what stands before and after; for models that were trained for it."""
    extra = [(each.filename, each.text) for each in body.input_extra]
    prompt = await asyncio.to_thread(
        infill_prompt,
        service.text.llm.model,
        body.input_prefix,
        body.input_suffix,
        body.prompt,
        extra,
    )
    return await _answered(body, [prompt], request, service)


async def _answered(
    body: CompletionBody, prompts: Sequence[list[int]], request: Request, service: Service
) -> Response:
    served = service.text
    tokenizer = vocabulary(served.llm.model)
    sampling = await asyncio.to_thread(body.chosen, served.llm.sampling, tokenizer)
    wanted = body.wanted(sampling, served.llm.model.config.n_vocab, served.context_length)
    form = Form(served, tokenizer, body, prompts, sampling, wanted.most_tokens(service))
    call = TextCall(prompts, wanted, slot=body.id_slot if body.id_slot >= 0 else None)
    if body.stream:
        stream = await call.begun(service, request)
        return event_stream(guarded(_events(service, stream, form), _failed))
    found = await call.completed(service, request)
    answers = [form.final(each, streamed=False) for each in found]
    return reply(answers[0] if len(answers) == 1 else answers)


async def _events(service: Service, stream: AsyncStream, form: Form) -> AsyncGenerator[bytes, None]:
    clock = Clock(stream)
    counts: Counter[int] = Counter()
    written = chunks(service, stream)
    coming = watched(written, stream) if form.body.return_progress else written
    async for seen in coming:
        if not isinstance(seen, Chunk):
            yield event({"index": 0, "content": "", "tokens": [], "stop": False, **seen})
            continue
        counts[seen.index] += len(seen.tokens)
        for piece in form.pieces(seen, counts[seen.index]):
            if form.body.timings_per_token and not piece.get("stop", True):
                piece["timings"] = clock.timings(counts[seen.index])
            yield event(piece)


def _failed(failure: Failure) -> bytes:
    return event(failure.body("/completion"))
