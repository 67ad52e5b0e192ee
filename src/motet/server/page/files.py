"""The page's files, and what browsers are told of them."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "files"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFile:
    """A file, as it is sent."""

    content: bytes
    packed: bytes
    """The same, compressed by gzip."""
    type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """The files by the paths that they are served at."""
    found: dict[str, PageFile] = {}
    for file in sorted(_FOLDER.iterdir()):
        if file.suffix not in _TYPES:  # what editors leave behind
            continue
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:32]
        path = "/" if file.name == "index.html" else f"/page/{file.name}"
        packed = gzip.compress(content, mtime=0)
        found[path] = PageFile(content, packed, _TYPES[file.suffix], f'W/"{digest}"')
    return found
