"""JSON schemas for notations that are not JSON: what of them grammars can be made of here."""

from collections.abc import Collection, Mapping
from typing import Any, cast

from motet import checks
from motet.chat_formats.tools import Tool
from motet.errors import OptionError

Schema = Mapping[str, Any]

_REMARKS = {
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "format",
    "nullable",
    "readOnly",
    "title",
    "writeOnly",
}
"""Keywords that hold nothing; a format is a remark by the standard, unless asked otherwise."""
OBJECT = {"type", "properties", "required", "additionalProperties"}
STRING = {"type", "enum", "const", "minLength", "maxLength"}


def resolved(schema: object, tool: Tool) -> Schema:
    """A schema, or what it refers to. Raises OptionError for what is none."""
    for _ in range(32):
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            raise OptionError(f"tool {tool.name!r}: {checks.shown(schema)} is no schema")
        found = cast(Schema, schema)
        if "$ref" not in found:
            return found
        schema = _at(str(found["$ref"]), tool)
    raise OptionError(f"tool {tool.name!r}: its schema refers to itself")


def require_known(schema: Schema, known: Collection[str], tool: Tool) -> None:
    """Raise OptionError for a keyword that a grammar can't hold to in this notation."""
    for key in schema:
        if key not in known and key not in _REMARKS:
            raise OptionError(
                f"tool {tool.name!r}: its schema has {key!r}, which arguments in this model's own"
                " notation can't be held to",
                hint="leave it out of the schema, or use a model that writes arguments as JSON",
            )


def properties(schema: Schema, tool: Tool) -> list[tuple[str, object, bool]]:
    """Of an object: each property's name and schema, and whether it is required."""
    require_known(schema, OBJECT, tool)
    found = checks.mapping(f"tool {tool.name!r}: properties", schema.get("properties", {}), "")
    required = checks.listed(f"tool {tool.name!r}: required", schema.get("required", []), "names")
    unknown = [name for name in required if name not in found]
    if unknown:
        raise OptionError(
            f"tool {tool.name!r}: {checks.shown(unknown[0])} is required, and has no schema"
        )
    for name in found:
        if not isinstance(name, str) or not name or set(name) & set('{}[]:,<>"\n'):
            raise OptionError(
                f"tool {tool.name!r}: a property is called {checks.shown(name)}",
                hint="use letters, digits and _",
            )
    return [(name, each, name in required) for name, each in found.items()]


def texts(schema: Schema) -> list[str] | None:
    """The texts that a schema lists, if it lists texts alone."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list | tuple) or not listed:
        return None
    found = cast("list[object]", list(cast("list[object]", listed)))
    return [each for each in found if isinstance(each, str)] if _all_text(found) else None


def lengths(schema: Schema) -> str:
    """How often a character comes in a text, as regular expressions say it."""
    low = checks.whole("minLength", schema.get("minLength", 0))
    high = checks.optional_whole("maxLength", schema.get("maxLength"), low)
    if high is None:
        return "*" if not low else f"{{{low},}}"
    return f"{{{low},{high}}}"


def _all_text(values: list[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _at(reference: str, tool: Tool) -> object:
    """What ``#/…`` leads to."""
    found: object = tool.schema
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = cast(Schema, found).get(name) if isinstance(found, Mapping) else None
    if not reference.startswith("#") or found is None:
        raise OptionError(f"tool {tool.name!r}: its schema has no {checks.shown(reference)}")
    return found
