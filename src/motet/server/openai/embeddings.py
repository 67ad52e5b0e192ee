"""``/v1/embeddings``."""

import asyncio
import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import Field

from motet.arrays import Float32
from motet.server.failures import Refused
from motet.server.generation import completed
from motet.server.openai.completions import TextsOrIds
from motet.server.replies import dumped
from motet.server.sampling import Asked
from motet.server.service import CurrentService, Served

router = APIRouter(tags=["OpenAI"])

_MOST = 2048
"""Texts of one request, as OpenAI has it."""


class EmbeddingsBody(Asked):
    """OpenAI's fields."""

    input: TextsOrIds
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
    texts = body.input if _is_many(body.input) else [body.input]
    if len(texts) > _MOST:
        raise Refused(400, f"there are {len(texts)} texts; at most {_MOST} at once", param="input")
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


def _is_many(given: str | list[Any]) -> bool:
    return isinstance(given, list) and not isinstance(given[0], int)


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
