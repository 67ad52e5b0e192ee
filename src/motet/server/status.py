"""Whether the server is up, what it serves, and how busy it is."""

from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from motet.server.failures import Refused
from motet.server.service import CurrentService, Served

router = APIRouter(tags=["status"])


@router.get("/health")
@router.get("/v1/health", include_in_schema=False)
async def health(service: CurrentService) -> dict[str, str]:
    """200 once the models are loaded, 503 before and while the server stops."""
    service.require_ready()
    return {"status": "ok"}


@router.get("/v1/models")
@router.get("/models", include_in_schema=False)
async def models(service: CurrentService) -> dict[str, Any]:
    """The models that are served."""
    service.require_ready()
    data = [_facts(served) for served in service.models]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"], "has_more": False}
    return {"object": "list", "data": data, **ends}


@router.get("/v1/models/{name:path}")
async def model(name: str, service: CurrentService) -> dict[str, Any]:
    """One of them."""
    service.require_ready()
    for served in service.models:
        if name == served.name or name in served.aliases:
            return _facts(served)
    raise Refused(404, f"there is no model {name[:80]!r} here", code="model_not_found")


@router.get("/metrics")
async def metrics(service: CurrentService) -> Response:
    """For Prometheus."""
    if not service.settings.metrics:
        raise Refused(501, "this server says nothing of its metrics (--no-metrics)")
    return Response(
        service.metrics.text(),
        headers={"Process-Start-Time-Unix": str(int(service.begun))},
        media_type=CONTENT_TYPE_PLAIN_0_0_4,
    )


def _facts(served: Served) -> dict[str, Any]:
    model = served.llm.model
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "motet",
        "aliases": list(served.aliases),
        "tags": list(served.tags),
        "type": "model",  # this and the next two are Anthropic's
        "display_name": served.name,
        "created_at": datetime.fromtimestamp(served.created, timezone.utc).isoformat(),
        "meta": {
            "n_vocab": model.config.n_vocab,
            "n_ctx": served.context_length,
            "n_ctx_train": model.config.context_length,
            "n_embd": model.config.d_model,
            "size": model.file.nbytes,
            "architecture": model.file.architecture,
        },
    }
