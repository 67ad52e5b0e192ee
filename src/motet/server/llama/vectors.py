"""/embedding: vectors of texts, in llama-server's own form."""

import asyncio
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import AliasChoices, Field

from motet.arrays import Float32
from motet.server.generation import completed
from motet.server.llama.prompts import prompts_of
from motet.server.replies import reply
from motet.server.sampling import Asked
from motet.server.service import CurrentService

router = APIRouter(tags=["llama-server"])


class EmbeddingBody(Asked):
    """Texts, or token ids, in the forms of /completion."""

    content: Annotated[Any, Field(validation_alias=AliasChoices("content", "input"))]
    embd_normalize: Annotated[
        int,
        Field(
            ge=-1,
            description="-1: as they are; 0: the largest number is 1; p: in the p-norm, 2 being"
            " the usual length.",
        ),
    ] = 2
    model: str | None = None


@router.post("/embedding")
@router.post("/embeddings", include_in_schema=False)
async def embedding(body: EmbeddingBody, request: Request, service: CurrentService) -> Response:
    """A vector of each text."""
    served = service.vectors
    model = served.llm.model
    prompts = await asyncio.to_thread(prompts_of, body.content, model, "content")
    euclidean = body.embd_normalize == 2
    limit = service.settings.timeout
    work = served.llm.embed(prompts, served.pooling, normalize=euclidean, timeout=limit)
    vectors = await completed(service, request, work)
    if not euclidean:
        vectors = _scaled(vectors, body.embd_normalize)
    entries = [{"index": i, "embedding": [each]} for i, each in enumerate(vectors.tolist())]
    return reply(entries)


def _scaled(vectors: Float32, p: int) -> Float32:
    """Rows of length 1 in the ``p``-norm; 0: by their largest number; -1: as they are."""
    if p < 0:
        return vectors
    wide = np.abs(vectors.astype(np.float64))
    largest = wide.max(axis=1, keepdims=True)
    largest[largest == 0] = 1
    if p == 0:
        return np.asarray(vectors / largest, np.float32)
    lengths = largest * ((wide / largest) ** p).sum(axis=1, keepdims=True) ** (1 / p)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), np.float32)
