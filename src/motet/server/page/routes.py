"""``/`` and what the page there consists of."""

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response

from motet.server.failures import Refused
from motet.server.page.files import PageFile

_HEADERS = {
    # Scripts and styles are files of the page's; nothing comes from, or goes, anywhere else; and no
    # text of a model's can become markup, whatever a mistake in the page would do with it.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept, but asked for again each time: 304 unless it has changed
    "Vary": "Accept-Encoding",
}


def page_router(files: Mapping[str, PageFile]) -> APIRouter:
    """Serves ``files`` at their paths."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @router.get("/page/{name}")
    async def file(request: Request) -> Response:
        found = files.get(request.url.path)
        if found is None:
            raise Refused(404, "the page has no such file")
        return _answer(request, found)

    return router


def _answer(request: Request, file: PageFile) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    known = request.headers.get("if-none-match", "")
    if file.etag in (each.strip() for each in known.split(",")):
        return Response(status_code=304, headers=headers)
    content = file.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = file.packed
        headers["Content-Encoding"] = "gzip"
    return Response(content, headers=headers, media_type=file.type)
