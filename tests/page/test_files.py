"""The page's files as the server sends them; no browser is needed for that."""

import re
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

import motet
from motet.server.page.files import page_files
from motet.server.settings import ServerSettings
from tests.server.models import tiny
from tests.server.running import serving

FILES = Path(motet.__file__).parent / "server" / "page" / "files"
MOST_BYTES = 155_000
MOST_PACKED = 60_000


@pytest.fixture(scope="module")
def server() -> Generator[httpx.Client]:
    with serving(tiny) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/base.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
def test_a_file(server: httpx.Client, path: str, kind: str) -> None:
    found = server.get(path)
    assert found.status_code == 200 and found.headers["content-type"] == kind
    assert found.content == page_files()[path].content
    assert found.headers["content-encoding"] == "gzip"
    plain = server.get(path, headers={"Accept-Encoding": "identity"})
    assert plain.content == found.content and "content-encoding" not in plain.headers
    head = server.head(path)
    assert head.status_code == 200 and head.headers["content-type"] == kind and not head.content


def test_what_a_browser_has_is_not_sent_again(server: httpx.Client) -> None:
    etag = server.get("/").headers["etag"]
    again = server.get("/", headers={"If-None-Match": f'"other", {etag}'})
    assert again.status_code == 304 and not again.content and again.headers["etag"] == etag
    assert server.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_policy_lets_nothing_in_from_elsewhere(server: httpx.Client) -> None:
    policy = server.get("/").headers["content-security-policy"]
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules.pop("require-trusted-types-for") == "'script'"
    assert rules.pop("default-src") == "'none'"
    assert set(rules.values()) <= {"'self'", "'none'"}


def test_it_needs_no_network_and_nothing_inline() -> None:
    html = (FILES / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    for address in re.findall(r'(?:href|src)="([^"#]+)"', html):
        assert address == "docs" or f"/{address}" in page_files()
    for file in FILES.iterdir():
        text = file.read_text()
        for place in re.findall(r"https?://[\w.-]+", text):
            assert place == "http://www.w3.org", f"{file.name} names {place}"
        for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert name not in text, f"{file.name} has {name}"


def test_modules_import_what_there_is() -> None:
    for file in FILES.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', file.read_text()):
            assert (FILES / name).is_file(), f"{file.name} imports {name}"


def test_it_is_small() -> None:
    files = page_files().values()
    assert sum(len(file.content) for file in files) < MOST_BYTES
    assert sum(len(file.packed) for file in files) < MOST_PACKED
    for file in FILES.iterdir():
        assert len(file.read_text().splitlines()) < 400, file.name


def test_it_is_no_secret_but_what_it_asks_for_is() -> None:
    with serving(tiny, settings=ServerSettings(port=0, api_keys=("sk-1",))) as client:
        for path in page_files():
            assert client.get(path).status_code == 200
        for path in ("/props", "/page/other.js", "/docs"):
            assert client.get(path).status_code == 401


def test_a_server_without_it() -> None:
    with serving(tiny, settings=ServerSettings(port=0, page=False)) as client:
        for path in ("/", "/page/main.js"):
            found = client.get(path)
            assert found.status_code == 404 and "/docs" in found.json()["error"]["message"]


def test_what_it_has_not(server: httpx.Client) -> None:
    assert server.get("/page/other.js").status_code == 404
    assert server.get("/page/..%2F__init__.py").status_code == 404
    assert server.post("/", json={}).status_code == 405
