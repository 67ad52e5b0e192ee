"""``/v1/embeddings``."""

import asyncio
import base64
from typing import Annotated, Any, Literal, cast

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field, WithJsonSchema

from motet.arrays import Float32
from motet.errors import shown
from motet.server.failures import Refused
from motet.server.generation import completed
from motet.server.llama.prompts import prompts_of
from motet.server.openai.completions import TEXTS_OR_IDS
from motet.server.replies import dumped
from motet.server.sampling import Asked
from motet.server.service import CurrentService, Served

router = APIRouter(tags=["OpenAI"])

_MOST = 2048
"""Texts of one request, as OpenAI has it."""


def _not_empty(value: Any) -> Any:
    if isinstance(value, str | dict) or (isinstance(value, list) and value):
        return value  # pyright: ignore[reportUnknownVariableType]
    raise ValueError("give text, token ids, or a list of either, which is not empty")


Input = Annotated[Any, AfterValidator(_not_empty), WithJsonSchema(TEXTS_OR_IDS)]


class EmbeddingsBody(Asked):
    """OpenAI's fields."""

    input: Input
    model: Annotated[str | None, Field(description="Any name.")] = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int | None, Field(ge=1)] = None
    user: Any = None
    truncate_prompt_tokens: Annotated[
        Literal[-1] | None, Field(description="vLLM's: -1 cuts texts that are too long.")
    ] = None


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingsBody, service: CurrentService, request: Request) -> Response:
    """Vectors of texts, each of length 1."""
    served = service.vectors
    _check_dimensions(body.dimensions, served)
    texts = await _texts(body.input, served)
    if len(texts) > _MOST:
        raise Refused(400, f"there are {len(texts)} texts; at most {_MOST} at once", param="input")
    _check_ids(texts, served)
    tokens = 0

    def count(_: int, total: int) -> None:
        nonlocal tokens
        tokens = total

    vectors = await completed(
        service,
        request,
        served.llm.embed(
            texts,
            served.pooling,
            timeout=service.settings.timeout,
            truncate=body.truncate_prompt_tokens == -1,
            progress=count,
        ),
    )
    written = await asyncio.to_thread(_written, vectors, body.encoding_format == "base64")
    closing = {
        "model": served.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    content = b'{"object":"list","data":[%b],%b' % (written, dumped(closing)[1:])
    return Response(content, media_type="application/json")


async def _texts(given: Any, served: Served) -> list[Any]:
    """Texts and token ids, one by one; llama-server's further forms of them as token ids."""
    if isinstance(given, str):
        return [given]
    items = cast(list[Any], given) if isinstance(given, list) else [given]
    if all(isinstance(item, int) for item in items):
        return [items]
    plain = not any(isinstance(item, int | dict) for item in items)
    if plain and all(isinstance(item, str) or _is_ids(item) for item in items):
        return items
    return await asyncio.to_thread(prompts_of, given, served.llm.model, "input")


def _is_ids(item: Any) -> bool:
    return isinstance(item, list) and all(isinstance(each, int) for each in cast(list[Any], item))


def _check_ids(texts: list[Any], served: Served) -> None:
    """Clients that count tokens by a vocabulary of OpenAI's send its ids."""
    n_vocab = served.llm.model.config.n_vocab
    for place, ids in enumerate(texts):
        if not isinstance(ids, str) and (most := max(ids, default=0)) >= n_vocab:
            raise Refused(
                400,
                f"text {place} has token {shown(most)}, but {served.name} has {n_vocab}: are these"
                " ids of another vocabulary? Send texts (LangChain's OpenAIEmbeddings:"
                " check_embedding_ctx_length=False)",
                param="input",
            )


def _check_dimensions(asked: int | None, served: Served) -> None:
    """Vectors are as long as the model makes them: no file says that a part of one is one too."""
    width = served.llm.model.config.d_model
    if asked not in (None, width):
        raise Refused(
            400,
            f"dimensions is {asked}, but vectors of {served.name} have {width} numbers: its file"
            " doesn't say that it was trained to give shorter ones",
            param="dimensions",
        )


def _written(vectors: Float32, as_bytes: bool) -> bytes:
    """The entries, a vector after the other: other threads get their turn between two."""
    return b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}'
        % (
            index,
            dumped(
                base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
                if as_bytes
                else vector.tolist()
            ),
        )
        for index, vector in enumerate(vectors)
    )
