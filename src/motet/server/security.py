"""Who may ask: API keys, names of the server, web pages of other origins."""

import hashlib
import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from motet.server.failures import Failure
from motet.server.settings import ServerSettings

_OPEN = frozenset({"/health", "/v1/health"})
"""What needs no key: whether the server is up is no secret."""


class Gate:
    """Lets through the requests that may come in; outside all endpoints."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, open: Collection[str] = ()) -> None:
        """``open``: further paths that need no key."""
        self._app = app
        self._open = {*_OPEN, *open}
        self._keys = tuple(_digest(key.encode()) for key in settings.api_keys)
        self._texts = settings.api_keys
        self._any_origin = "*" in settings.origins
        self._origins = settings.origins
        self._names = {"localhost", settings.host, *settings.hosts}
        self._any_host = "*" in settings.hosts or not settings.loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal.response(scope["path"])(scope, receive, send)

    def _refusal(self, scope: Scope) -> Failure | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._known_host(host):
            return Failure(
                403,
                f"the server isn't called {host[:80]!r}: a web page may have sent this request"
                " (--allowed-host allows further names)",
            )
        origin = headers.get("origin")
        if origin is not None and not self._known_origin(origin, host):
            return Failure(
                403, f"pages of {origin[:80]!r} may not ask this server (--cors-origin allows them)"
            )
        if not self._keys or scope["path"] in self._open or scope["method"] == "OPTIONS":
            return None
        key = self._key(headers)
        if key is not None:
            scope["motet.key"] = key
            return None
        return Failure(
            401,
            "Invalid API Key: send one as 'Authorization: Bearer …' or 'X-Api-Key: …'",
            code="invalid_api_key",
        )

    def _key(self, headers: Headers) -> str | None:
        """The key that was given; None: none. All are compared, each in constant time."""
        kind, _, value = headers.get("authorization", "").partition(" ")
        given = [headers.get("x-api-key", ""), value.strip() if kind.lower() == "bearer" else ""]
        # Headers are bytes, which the framework reads as Latin-1.
        digests = [_digest(key.encode("latin-1")) for key in given if key]
        known = zip(self._keys, self._texts, strict=True)
        matches = [
            text for key, text in known for found in digests if hmac.compare_digest(found, key)
        ]
        return matches[0] if matches else None

    def _known_host(self, host: str) -> bool:
        """Whether a request is for this server: a name may be anybody's that leads here."""
        if self._any_host:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _known_origin(self, origin: str, host: str) -> bool:
        if self._any_origin or origin in self._origins:
            return True
        return bool(host) and origin.partition("://")[2] == host


def key_of(scope: Scope) -> str | None:
    """The key that opened the server to a request; None where none is needed."""
    return scope.get("motet.key")


def _digest(key: bytes) -> bytes:
    """Of one length for all keys, so that comparing tells nothing of theirs."""
    return hashlib.sha256(key).digest()
