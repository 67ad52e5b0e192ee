"""Text to tokens and back, and chats as the text that the model sees."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from motet.server.failures import Refused
from motet.server.llama.prompts import raw_text, vocabulary
from motet.server.openai.chat_body import ChatBody, continues
from motet.server.replies import reply
from motet.server.sampling import Asked
from motet.server.service import CurrentService
from motet.tokenizer import Tokenizer

router = APIRouter(tags=["llama-server"])

_MOST_PIECES = 250_000
"""To write more takes long, in which nobody else is served."""


class TokenizeBody(Asked):
    """A text, and how it is read."""

    content: str
    add_special: Annotated[bool, Field(description="Put BOS and the like around it.")] = False
    parse_special: Annotated[bool, Field(description="</s> means the token.")] = True
    with_pieces: Annotated[bool, Field(description="Say what each token stands for.")] = False
    model: str | None = None


class DetokenizeBody(Asked):
    """Token ids."""

    tokens: list[int]
    model: str | None = None


class ApplyTemplateBody(Asked):
    """A chat; messages and tools in OpenAI's form."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    model: str | None = None


@router.post("/tokenize")
async def tokenize(body: TokenizeBody, service: CurrentService) -> Response:
    """The tokens of a text."""
    tokenizer = vocabulary(service.first.llm.model)
    ids = await asyncio.to_thread(
        tokenizer.encode, body.content, body.add_special, body.parse_special
    )
    if not body.with_pieces:
        return reply({"tokens": ids})
    if len(ids) > _MOST_PIECES:
        raise Refused(
            413, f"there are {len(ids)} tokens; with_pieces says at most {_MOST_PIECES} at once"
        )
    return await asyncio.to_thread(_pieces, tokenizer, ids)


@router.post("/detokenize")
async def detokenize(body: DetokenizeBody, service: CurrentService) -> Response:
    """What tokens stand for, one after the other."""
    text = await asyncio.to_thread(raw_text, body.tokens, vocabulary(service.first.llm.model))
    return reply({"content": text})


@router.post("/apply-template")
async def apply_template(body: ApplyTemplateBody, service: CurrentService) -> Response:
    """A chat as the text that the model would see; nothing is computed."""
    options = {**service.settings.template_options, **(body.chat_template_kwargs or {})}
    prompt = await service.text.llm.render_chat(
        body.messages,
        tools=body.tools or None,
        template_options=options,
        continue_final_message=continues(
            body.messages, body.continue_final_message, body.add_generation_prompt
        ),
        add_generation_prompt=body.add_generation_prompt is not False,
    )
    return reply({"prompt": prompt})


@router.post("/v1/chat/completions/input_tokens")
@router.post("/chat/completions/input_tokens", include_in_schema=False)
async def input_tokens(body: ChatBody, service: CurrentService) -> dict[str, Any]:
    """How many tokens the model would read of a chat."""
    count = await body.call(service.text, None).prompt_tokens(service)
    return {"object": "response.input_tokens", "input_tokens": count}


def _pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> Response:
    return reply({"tokens": [{"id": i, "piece": _piece(tokenizer.piece(i))} for i in ids]})


def _piece(piece: bytes) -> str | list[int]:
    """Text, or the bytes of what is none."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
