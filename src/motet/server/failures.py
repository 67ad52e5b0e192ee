"""What went wrong, in the form that each API's clients parse."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from motet.errors import (
    BusyError,
    CannotRewind,
    CapacityError,
    ContextLengthError,
    ConversationBusy,
    LLMClosed,
    MotetError,
    NumericalError,
    OptionError,
    StateFileError,
    TimedOut,
    TokenizerError,
    UnsupportedError,
)
from motet.server.replies import reply

_log = logging.getLogger("motet")

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}
_ANTHROPIC_TYPES = {
    **_TYPES,
    409: "invalid_request_error",
    500: "api_error",
    501: "invalid_request_error",
    503: "overloaded_error",
}


_JSON_NAMES = {
    **dict.fromkeys(("tuple_type", "list_type"), "give a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "give an object"),
    "bool_type": "give true or false",
    "missing": "it is missing",
}
"""What a field should be, where it is said in Python's words."""
_SHOWN = 120
"""Characters of a name that a client made up."""
_NAMED = 5
"""Further fields that an error names."""
_RETRY = 5.0
"""Seconds after which to ask a server that loads its model, or stops."""


class ClientLeft(Exception):
    """The client has closed its connection; what it asked for was cancelled."""


class Refused(Exception):
    """An endpoint refuses a request: ``status`` is HTTP's, ``param`` the field that is to blame."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """``details``: what clients of Anthropic's API act upon."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.details = details


@dataclass(frozen=True)
class Failure:
    """An error as HTTP has it."""

    status: int
    message: str
    type: str | None = None
    """None: what the status says."""
    code: str | None = None
    param: str | None = None
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further entries of the error, which programs read."""
    retry_after: float | None = None
    """Seconds."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def body(self, path: str) -> dict[str, Any]:
        """As clients of ``path`` parse it: Anthropic's form, or that of OpenAI and llama.cpp."""
        if path.startswith("/v1/messages"):
            kind = _ANTHROPIC_TYPES.get(self.status, "api_error")
            said: dict[str, Any] = {"type": kind, "message": self.message}
            if "details" in self.facts:
                said["details"] = self.facts["details"]
            return {"type": "error", "error": said}
        error = {
            "message": self.message,
            "type": self.type or _TYPES.get(self.status, "server_error"),
            "param": self.param,
            "code": self.code or self.status,
            **self.facts,
        }
        return {"error": error}

    def response(self, path: str) -> Response:
        """The answer to a request of ``path``."""
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after)))
        return reply(self.body(path), self.status, headers)


def failure(error: BaseException) -> Failure:
    """An error as HTTP has it; what nobody expected is logged, and not told."""
    if isinstance(error, Refused):
        return Failure(
            error.status,
            error.message,
            code=error.code,
            param=error.param,
            facts={} if error.details is None else {"details": error.details},
            retry_after=_RETRY if error.status == 503 else None,
        )
    if isinstance(error, ContextLengthError):
        return Failure(
            400,
            # "too large" and "exceeds …" are words that clients look for
            f"the request is too large and exceeds the available context size: {error}",
            "exceed_context_size_error",
            "context_length_exceeded",
            facts={"n_prompt_tokens": error.tokens, "n_ctx": error.limit},
        )
    if isinstance(error, BusyError):
        return Failure(429, str(error), retry_after=error.retry_after)
    if isinstance(error, TimedOut):
        return Failure(408, str(error))
    if isinstance(error, LLMClosed):
        return Failure(503, "the server is stopping", retry_after=_RETRY)
    if isinstance(error, CannotRewind):
        return Failure(409, str(error), facts={"nearest": error.nearest})
    if isinstance(error, ConversationBusy):
        return Failure(409, str(error), code="conversation_busy")
    if isinstance(error, CapacityError | OptionError | TokenizerError | StateFileError):
        return Failure(400, str(error))
    if isinstance(error, UnsupportedError):
        return Failure(501, str(error))
    if not isinstance(error, MotetError):
        _log.error("a request failed", exc_info=error)
        return Failure(500, "the server failed; its log says why")
    if isinstance(error, NumericalError):
        _log.error("%s", error)
    return Failure(500, str(error))


def _validation(error: RequestValidationError, path: str) -> Failure:
    """What is wrong with a request's fields: of the first what it is, of others where."""
    first, *rest = error.errors()
    place = _place(first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "literal_error":
        said = re.sub(r"\b(True|False)\b", lambda found: found[0].lower(), said)
    if first["type"] == "extra_forbidden":
        instead = _instead(place, path)
        said = f"this server does not know the field, so it would have no effect; {instead}"
    said = _JSON_NAMES.get(first["type"], said)
    if first["type"] == "json_invalid":
        place, said = "", f"the body is no JSON: {first.get('ctx', {}).get('error', said)}"
    others = _others(dict.fromkeys(_place(each["loc"]) for each in rest), place)
    return Failure(400, f"{place}: {said}{others}" if place else said + others, param=place or None)


def _place(where: Sequence[int | str]) -> str:
    """Of a field in the body."""
    named = [str(part) for part in where if part != "body" and not _is_kind(part)]
    return ".".join(named)[:_SHOWN]


def _others(places: Iterable[str], first: str) -> str:
    """Where else something is wrong."""
    found = [place for place in places if place and place != first]
    if not found:
        return ""
    end = ", …" if len(found) > _NAMED else ""
    return f" (and {len(found)} more: {', '.join(found[:_NAMED])}{end})"


def _instead(field: str, path: str) -> str:
    """What does it here that the field of another server does."""
    if "/chat/completions" in path and field in _CHAT_FIELDS:
        return f"give {_CHAT_FIELDS[field]}"
    return _FIELDS.get(field, "leave it out")


_CHAT_FIELDS = {
    "enable_thinking": 'chat_template_kwargs: {"enable_thinking": true or false}',
    "thinking": 'chat_template_kwargs: {"enable_thinking": true or false}',
    "reasoning": "reasoning_effort",
}
_FIELDS = {
    "options": "its fields stand beside the others here, and num_ctx is --ctx of motet serve",
    "num_ctx": "it is --ctx of motet serve",
    "num_predict": "give max_tokens",
}
"""Those of other servers, and what there is here instead."""


def _is_kind(part: object) -> bool:
    """Whether a part of an error's place is one of the types that a field may have."""
    return part in ("str", "int", "float", "bool") or (isinstance(part, str) and "[" in part)


def _http(error: HTTPException, request: Request) -> Failure:
    """What the framework refuses: paths, methods, and bodies that can't be read."""
    cause = error.__cause__
    if isinstance(cause, Refused):
        return failure(cause)
    said = str(error.detail)
    if error.status_code == 405:
        allowed = dict(error.headers or {}).get("Allow", "other methods")
        said = f"this path has {allowed}, and no {request.method}"
    if error.status_code == 404:
        said = "there is no such path here; /docs lists those that there are"
        if request.url.path.startswith("/api/"):
            said = "this is no Ollama: its clients find the same as of OpenAI, under /v1"
    if isinstance(cause, RecursionError):
        said = "the body is nested too deeply"
    elif isinstance(cause, UnicodeDecodeError):
        said = "the body is no JSON: it isn't UTF-8"
    elif isinstance(cause, ValueError):
        said = f"the body is no JSON that can be read: {cause}"
    return Failure(error.status_code, said, headers=error.headers or {})


def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientLeft):
        return Response(status_code=499)  # as proxies log it; nobody gets it
    if isinstance(error, RequestValidationError):
        found = _validation(error, request.url.path)
    elif isinstance(error, HTTPException):
        found = _http(error, request)
    else:
        found = failure(error)
    if isinstance(error, ContextLengthError):
        found = replace(found, message=found.message.replace("truncate=True", _cut(request)))
    return found.response(request.url.path)


def _cut(request: Request) -> str:
    """What asks for texts to be cut, which is ``truncate=True`` in Python."""
    if "rerank" in request.url.path:
        return "truncate: true"
    return "truncate_prompt_tokens: -1 at /v1/embeddings"


def add_handlers(app: FastAPI) -> None:
    """Let every error of an endpoint become its answer."""
    kinds = (RequestValidationError, HTTPException, MotetError, Refused, ClientLeft, Exception)
    for kind in kinds:
        app.add_exception_handler(kind, _answer)
