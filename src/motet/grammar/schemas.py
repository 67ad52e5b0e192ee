"""JSON schemas as callers give them, and as text that llguidance compiles."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from motet.checks import shown
from motet.errors import OptionError
from motet.grammar.keywords import adapted

LONGEST = 2_000_000
"""Characters of a schema or grammar. The largest of JSONSchemaBench has 1.3 million."""
MOST_OBJECTS = 10_000
"""Objects in a schema, which may refer to each other in one chain."""
MOST_PROPERTIES = 1_000
"""Of an object; what they take to compile goes by their square."""
DEEPEST = 100
"""Objects and lists within each other; llguidance reads 128."""

_WHITESPACE = r"[ ]|\n{1,2}[ \t]{0,40}"
"""A space, or a line's end and what indents the next: a model can't fill its answer with blanks."""
_ESCAPES = 'nrbtf\\"'
"""No \\u0061, by which a property would go under another spelling of its name."""
_CONTROL = re.compile(r"\\u00[01]|\\u007f|\\\\[xuUvc0ae]")
"""Of a schema that may want control characters, which have no other escapes."""
_OPTIONS = "x-guidance"
"""Where a schema has options for llguidance, some of which would have it ignore keywords."""


def schema_text(schema: Mapping[str, Any] | str | bool) -> str:
    """A schema as JSON, checked, to be put after ``%json`` in a Lark grammar.

    ``schema``: a dictionary, or JSON text; True allows any JSON. Raises OptionError for what is no
    schema, or is too large.
    """
    given = _parsed(schema) if isinstance(schema, str) else schema
    if given is True:
        given = dict[str, Any]()
    if given is False:
        raise OptionError("the JSON schema is false, which nothing satisfies")
    if not isinstance(given, Mapping):
        raise OptionError(
            f"the JSON schema is {shown(given)}", hint="use a dictionary, its JSON, True or False"
        )
    found = dict(cast(Mapping[str, Any], given))
    _check_size(found)
    if _OPTIONS in found:
        raise OptionError(
            f"the JSON schema has {_OPTIONS!r}, which is not supported", hint="leave it out"
        )
    meant = adapted(found)
    escapes = _ESCAPES + ("u" if _CONTROL.search(_written(meant)) else "")
    form = {"whitespace_pattern": _WHITESPACE, "json_allowed_escapes": escapes}
    text = _written(meant | {_OPTIONS: form})
    if len(text) > LONGEST:
        raise _too_large(f"has {len(text):,} characters; at most {LONGEST:,} are taken")
    return text


def _parsed(text: str) -> object:
    if len(text) > LONGEST:
        raise _too_large(f"has {len(text):,} characters; at most {LONGEST:,} are taken")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_large("is nested too deeply") from None
    except ValueError as error:
        raise OptionError(f"the JSON schema is no JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _check_size(schema: dict[str, Any]) -> None:
    """Raise OptionError for one that is too large or deep, which it is too where it has itself."""
    level: list[Any] = [schema]
    objects = 0
    for _ in range(DEEPEST):
        objects += sum(isinstance(part, Mapping) for part in level)
        if objects > MOST_OBJECTS:
            raise _too_large(f"has more than {MOST_OBJECTS:,} objects")
        if any(_properties(part) > MOST_PROPERTIES for part in level):
            raise _too_large(f"has an object of more than {MOST_PROPERTIES:,} properties")
        level = [each for part in level for each in _parts(part)]
        if len(level) > LONGEST:
            raise _too_large(f"has more than {LONGEST:,} values")
        if not level:
            return
    raise _too_large(f"is nested more than {DEEPEST} levels deep")


def _properties(value: Any) -> int:
    """How many ``properties`` a schema has."""
    named: Any = cast(Any, value).get("properties") if isinstance(value, Mapping) else None
    return len(cast(Mapping[str, Any], named)) if isinstance(named, Mapping) else 0


def _parts(value: Any) -> list[Any]:
    """The objects and lists right within one."""
    inner: Iterable[Any] = cast(Any, value.values() if isinstance(value, Mapping) else value)
    return [each for each in inner if isinstance(each, Mapping | list | tuple)]


def _written(schema: dict[str, Any]) -> str:
    try:
        text = json.dumps(schema, allow_nan=False, default=_plain)
        text.encode()
    except (TypeError, ValueError) as error:
        raise OptionError(f"the JSON schema is no JSON: {error}") from None
    return text


def _plain(value: Any) -> dict[str, Any]:
    """A dictionary of another kind."""
    if isinstance(value, Mapping):
        return dict(cast(Mapping[str, Any], value))
    raise TypeError(f"it has {shown(value)}")


def _too_large(problem: str) -> OptionError:
    return OptionError(f"the JSON schema {problem}", hint="use a smaller one")
