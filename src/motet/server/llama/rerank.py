"""/v1/rerank: how well documents answer a query, in the forms of Jina and of TEI."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from motet.server.failures import Refused
from motet.server.generation import completed
from motet.server.replies import reply
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


@router.post("/v1/rerank")
@router.post("/rerank", include_in_schema=False)
@router.post("/reranking", include_in_schema=False)
@router.post("/v1/reranking", include_in_schema=False)
async def rerank(body: RerankBody, request: Request, service: CurrentService) -> Response:
    """Documents by how well they answer the query, the best first."""
    served = service.reranker
    if (body.documents is None) == (body.texts is None):
        raise Refused(400, "give either documents or texts: a list", param="documents")
    documents = body.documents or body.texts or []
    tokens = 0

    def count(_: int, total: int) -> None:
        nonlocal tokens
        tokens = total

    work = served.llm.rank(
        body.query,
        documents,
        truncate=body.truncate,
        timeout=service.settings.timeout,
        progress=count,
    )
    scores = (await completed(service, request, work)).tolist()
    order = sorted(range(len(scores)), key=lambda place: -scores[place])[: body.top_n]
    if body.texts is not None:
        return reply([_entry(i, "score", scores, documents, body.return_text) for i in order])
    repeated = [{"text": text} for text in documents]
    return reply(
        {
            "model": served.name,
            "object": "list",
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "results": [
                _entry(i, "relevance_score", scores, repeated, body.return_documents) for i in order
            ],
        }
    )


def _entry(
    place: int, label: str, scores: list[float], documents: Sequence[object], repeats: bool
) -> dict[str, object]:
    """What is said of the document at ``place``."""
    entry: dict[str, object] = {"index": place, label: scores[place]}
    if repeats:
        entry["text" if label == "score" else "document"] = documents[place]
    return entry
