"""/v1/rerank: how well documents answer a query, in the forms of Jina and of TEI."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from motet.server.failures import Refused
from motet.server.generation import completed
from motet.server.sampling import Asked
from motet.server.service import CurrentService

router = APIRouter(tags=["rerank"])


class RerankBody(Asked):
    """``documents`` asks for Jina's form of the answer, ``texts`` for TEI's."""

    query: str
    documents: Annotated[list[str] | None, Field(min_length=1)] = None
    texts: Annotated[list[str] | None, Field(min_length=1)] = None
    top_n: Annotated[int | None, Field(ge=1, description="The best so many; null: all.")] = None
    return_documents: Annotated[bool, Field(description="Jina: repeat the documents.")] = False
    return_text: Annotated[bool, Field(description="TEI: repeat the texts.")] = False
    truncate: Annotated[bool, Field(description="Cut what is too long for the model.")] = False
    raw_scores: Annotated[
        bool, Field(description="TEI: changes nothing, scores are always the model's own.")
    ] = False
    model: str | None = None


@router.post("/v1/rerank", response_model=None)
@router.post("/rerank", response_model=None, include_in_schema=False)
@router.post("/reranking", response_model=None, include_in_schema=False)
@router.post("/v1/reranking", response_model=None, include_in_schema=False)
async def rerank(
    body: RerankBody, request: Request, service: CurrentService
) -> dict[str, Any] | list[dict[str, Any]]:
    """Documents by how well they answer the query, the best first."""
    served = service.reranker
    if (body.documents is None) == (body.texts is None):
        raise Refused(400, "give either documents or texts: a list", param="documents")
    documents = body.documents or body.texts or []
    tokens = 0

    def count(_: int, total: int) -> None:
        nonlocal tokens
        tokens = total

    work = served.llm.rank(body.query, documents, truncate=body.truncate, progress=count)
    scores = (await completed(service, request, work)).tolist()
    order = sorted(range(len(scores)), key=lambda place: -scores[place])[: body.top_n]
    if body.texts is not None:
        return [
            {
                "index": place,
                "score": scores[place],
                **({"text": documents[place]} if body.return_text else {}),
            }
            for place in order
        ]
    return {
        "model": served.name,
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": [
            {
                "index": place,
                "relevance_score": scores[place],
                **({"document": {"text": documents[place]}} if body.return_documents else {}),
            }
            for place in order
        ],
    }
