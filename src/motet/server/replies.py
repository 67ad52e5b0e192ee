"""Responses that are JSON."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Response

_encoded = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumped(data: Any) -> bytes:
    """JSON as UTF-8. Half a surrogate pair, which JSON can quote but UTF-8 can't, becomes "?"."""
    return _encoded(data).encode("utf-8", "replace")


def reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The response that says ``data``, as it is: nothing looks through it again."""
    return Response(dumped(data), status, headers, media_type="application/json")
