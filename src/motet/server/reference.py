"""The page that describes the endpoints: one document, which needs no script and no network."""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter()

Json = Mapping[str, Any]

_STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, h3 { font-family: ui-monospace, monospace }
h3 { margin: 2rem 0 .3rem; font-size: 1rem }
table { border-collapse: collapse }
td { border-top: 1px solid #8886; padding: .2rem 1.2rem .2rem 0; vertical-align: top }
:root { color-scheme: light dark }
"""
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """What ``/openapi.json`` says, for people."""
    return HTMLResponse(page(request.app.openapi()), headers=_POLICY)


def page(described: Json) -> str:
    """An OpenAPI document as HTML."""
    title = escape(f"{described['info']['title']} {described['info']['version']}")
    parts = [
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_STYLE}</style><h1>{title}</h1>",
        _text(described["info"].get("description")),
        '<p>For programs: <a href="/openapi.json">/openapi.json</a>.</p>',
    ]
    tag = None
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                parts.append(f"<h2>{escape(tag)}</h2>")
            parts += _operation(f"{method.upper()} {path}", operation)
    parts.append("<h2>Fields</h2>")
    for name, schema in described["components"]["schemas"].items():
        if name not in ("HTTPValidationError", "ValidationError"):  # errors have another form here
            parts.append(f'<h3 id="{escape(name)}">{_short(name)}</h3>')
            parts.append(_text(schema.get("description")))
            parts.append(_table(_fields(schema)) if "properties" in schema else _type(schema))
    return "\n".join(parts)


def _operation(name: str, operation: Json) -> Iterable[str]:
    yield f"<h3>{escape(name)}</h3>"
    yield _text(operation.get("description"))
    parameters = operation.get("parameters", ())
    if parameters:
        yield _table((each["name"], _type(each["schema"]), "") for each in parameters)
    body = operation.get("requestBody")
    if body is not None:
        yield f"<p>Body: {_type(body['content']['application/json']['schema'])}</p>"


def _fields(schema: Json) -> Iterable[tuple[str, str, str]]:
    needed = schema.get("required", ())
    for name, field in schema["properties"].items():
        said = _marked(field.get("description", ""))
        yield name, _type(field), ("Required. " if name in needed else "") + said


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    written = (
        f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{said}</td></tr>"
        for name, kind, said in rows
    )
    return f"<table>{''.join(written)}</table>"


def _type(schema: Json) -> str:
    """What a value may be, null, which is the same as nothing, left out."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{escape(name)}">{_short(name)}</a>'
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is not None:
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            kinds = (_type(each) for each in schema[several] if each.get("type") != "null")
            return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(schema.get("type", "any"))


def _short(name: str) -> str:
    """A schema's name without the module, which tells two of one name apart."""
    return escape(name.rpartition("__")[2])


def _text(said: str | None) -> str:
    return f"<p>{_marked(said)}</p>" if said else ""


def _marked(said: str) -> str:
    """With what stands between backticks as code."""
    return re.sub("(`+)(.+?)\\1", r"<code>\2</code>", escape(said))
