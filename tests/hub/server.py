"""A small hub on the loopback: repositories in memory, as huggingface_hub asks for them."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 4096
"""Bytes from which a file has the SHA-256 of a large one."""


@dataclass
class Repo:
    """``revisions``: files by revision; ``broken``: after how many bytes each answer with a file
    of this name ends, the first one first; ``claimed``: what is said of a file, in place of what
    is so; ``elsewhere``: the endpoint that has the files."""

    revisions: dict[str, dict[str, bytes]]
    gated: bool = False
    private: bool = False
    broken: dict[str, list[int]] = field(default_factory=dict)
    claimed: dict[str, dict[str, object]] = field(default_factory=dict)
    ignores_ranges: bool = False
    elsewhere: str = ""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client may leave in the midst of an answer."""


class SmallHub:
    """``requests``: (path, Range header) of each. ``status``: what it answers, if not 200."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.token = "hf_right"
        self.requests: list[tuple[str, str | None]] = []
        self.tokens: list[str | None] = []
        self.status: int | None = None
        self._stopped = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Answer nothing any more, on connections that are open neither."""
        self._stopped = True
        self._server.shutdown()
        self._server.server_close()

    def commit(self, name: str, revision: str = "main") -> str:
        """Of the files that it has now."""
        digest = hashlib.sha1(name.encode())
        for file in sorted(self.repos[name].revisions[revision].items()):
            digest.update(repr(file).encode())
        return digest.hexdigest()

    def files_asked(self) -> list[tuple[str, str | None]]:
        return [(p.split("/resolve/")[1][41:], r) for p, r in self.requests if "/resolve/" in p]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if self._stopped:
            request.close_connection = True
            return
        path = unquote(urlsplit(request.path).path)
        self.requests.append((path, request.headers.get("Range")))
        self.tokens.append(request.headers.get("Authorization"))
        parts = path.strip("/").split("/")
        if self.status is not None:
            self._fail(request, self.status, "")
        elif parts[:2] == ["api", "models"]:
            self._list(request, "/".join(parts[2:4]), "/".join(parts[5:]) or "main")
        else:
            self._send(request, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _list(self, request: BaseHTTPRequestHandler, name: str, revision: str) -> None:
        repo = self.repos.get(name)
        if repo is None or (repo.private and not self._allowed(request)):
            self._fail(request, 401, "RepoNotFound")
            return
        files = self._files(repo, name, revision)
        if files is None:
            self._fail(request, 404, "RevisionNotFound")
            return
        commit = self.commit(name, revision) if revision in repo.revisions else revision
        body = {
            "id": name,
            "sha": commit,
            "siblings": [_sibling(n, d) | repo.claimed.get(n, {}) for n, d in files.items()],
        } | repo.claimed.get("", {})
        self._body(request, 200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _send(self, request: BaseHTTPRequestHandler, name: str, revision: str, file: str) -> None:
        repo = self.repos[name]
        if repo.gated and not self._allowed(request):
            self._fail(request, 401, "GatedRepo")
            return
        if repo.elsewhere:
            self._body(request, 302, b"", {"Location": repo.elsewhere + request.path})
            return
        files = self._files(repo, name, revision)
        if files is None or file not in files:
            self._fail(request, 404, "EntryNotFound")
            return
        data = files[file]
        wanted = request.headers.get("Range")
        start = int(wanted[6:-1]) if wanted and not repo.ignores_ranges else 0
        commit = self.commit(name, revision) if revision in repo.revisions else revision
        headers = {"ETag": f'"{_blob(data)}"', "X-Repo-Commit": commit}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        stops = repo.broken.get(file, [])
        cut = stops.pop(0) if stops else None
        self._body(request, 206 if start else 200, data[start:], headers, cut)

    def _files(self, repo: Repo, name: str, revision: str) -> dict[str, bytes] | None:
        named = {self.commit(name, each): files for each, files in repo.revisions.items()}
        return (repo.revisions | named).get(revision)

    def _allowed(self, request: BaseHTTPRequestHandler) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.token}"

    def _fail(self, request: BaseHTTPRequestHandler, status: int, code: str) -> None:
        self._body(request, status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _body(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        data: bytes,
        headers: dict[str, str],
        cut: int | None = None,
    ) -> None:
        request.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(data))}).items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data[:cut])
        if cut is not None:
            request.wfile.flush()
            request.close_connection = True


def _sibling(name: str, data: bytes) -> dict[str, object]:
    facts: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": "0" * 40}
    if len(data) < LARGE:
        return facts | {"blobId": _blob(data)}
    return facts | {"lfs": {"size": len(data), "sha256": _blob(data), "pointerSize": 100}}


def _blob(data: bytes) -> str:
    """What the hub knows a file by: SHA-256 of a large one, else git's."""
    if len(data) >= LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
