"""Keywords of JSON schemas that llguidance takes otherwise than JSON Schema."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from motet.checks import shown
from motet.errors import OptionError

FORMATS = frozenset(
    (
        *("date", "date-time", "duration", "time"),
        *("email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6"),
        *("iri", "iri-reference", "uri", "uri-reference", "uri-template", "uuid"),
        *("json-pointer", "regex", "relative-json-pointer"),
    )
)
"""Those that JSON Schema defines (2020-12, section 7.3); any other is a note for readers."""
_ONE = (
    *("additionalItems", "additionalProperties", "contains", "else", "if", "items", "not"),
    *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
)
"""Keywords that have a schema."""
_LISTED = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_NAMED = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_OLD = re.compile(r"json-schema\.org/draft-0[123]/")


def adapted(schema: Any) -> Any:
    """A schema that llguidance takes as it is meant. Values, as in ``enum``, stay as they are.

    Formats that JSON Schema does not define say nothing, nor does ``uniqueItems`` where it is
    false: they are left out, for llguidance refuses them. Raises OptionError where it would give
    what does not satisfy the schema: it counts a key that is repeated twice, and knows nothing of
    Draft 3.
    """
    if not isinstance(schema, Mapping):
        return schema
    kept = dict(cast(Mapping[str, Any], schema))
    form = kept.get("format")
    if isinstance(form, str) and form not in FORMATS:
        del kept["format"]
    if kept.get("uniqueItems") is False:
        del kept["uniqueItems"]
    _refuse_uncounted(kept)
    _refuse_old(kept.get("$schema"))
    for keyword, inner in _inner(kept):
        kept[keyword] = inner
    return kept


def _inner(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keywords that have schemas, with these adapted."""
    for keyword in schema.keys() & {*_ONE, *_LISTED, *_NAMED}:
        value: Any = schema[keyword]
        if keyword in _LISTED and isinstance(value, list | tuple):
            yield keyword, [adapted(each) for each in cast(list[Any], value)]
        elif keyword in _NAMED and isinstance(value, Mapping):
            named = cast(Mapping[str, Any], value)
            yield keyword, {name: adapted(each) for name, each in named.items()}
        elif keyword in _ONE:
            yield keyword, adapted(value)


def _refuse_uncounted(schema: dict[str, Any]) -> None:
    """Raise OptionError where repeated keys could make up for properties that are lacking."""
    least, required = schema.get("minProperties"), schema.get("required")
    named = len(cast(list[Any], required)) if isinstance(required, list | tuple) else 0
    if isinstance(least, int | float) and least > max(named, 1):
        raise OptionError(
            f"the JSON schema has minProperties {shown(least)}, which is not supported",
            hint="name the properties that are needed in required",
        )


def _refuse_old(dialect: object) -> None:
    if isinstance(dialect, str) and _OLD.search(dialect):
        raise OptionError(
            f"the JSON schema is of {shown(dialect)}, which is not supported",
            hint="write it in Draft 4 or a later one",
        )
