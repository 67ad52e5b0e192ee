"""Tools that a caller offers, and how the model is to use them: in the OpenAI API's form."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from motet import checks
from motet.errors import OptionError

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_MODES = ("auto", "none", "required")
_MOST = 1 << 20
"""Characters of all tools, as JSON."""


@dataclass(frozen=True)
class Tool:
    """A function. ``schema``: of its arguments, an object's. ``given``: all of it, as given."""

    name: str
    schema: Mapping[str, Any]
    given: Mapping[str, Any]


@dataclass(frozen=True)
class ToolChoice:
    """``allowed``: those that may be called. ``required``: whether one has to be."""

    allowed: tuple[Tool, ...]
    required: bool


def read_tools(tools: object) -> tuple[Tool, ...]:
    """The tools that a caller gives; none for None. Raises OptionError for what is no tool."""
    if tools is None:
        return ()
    given = checks.listed("tools", tools, 'tools, as {"type": "function", "function": {…}}')
    try:
        size = len(json.dumps(given))
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"tools has what JSON can't say: {error}") from error
    if size > _MOST:
        raise OptionError(f"tools has {size} characters as JSON", hint=f"use at most {_MOST}")
    read = tuple(_tool(f"tools[{i}]", each) for i, each in enumerate(given))
    for name, times in Counter(tool.name for tool in read).items():
        if times > 1:
            raise OptionError(f"tools has {name!r} twice", hint="give each a name of its own")
    return read


def read_choice(choice: object, tools: Sequence[Tool]) -> ToolChoice:
    """What ``tool_choice`` means: "auto", "none", "required", or a function by its name.

    Raises OptionError for anything else, and where it asks for tools that there are not.
    """
    if isinstance(choice, str):
        mode = checks.choice("tool_choice", choice, _MODES)
        if mode == "required" and not tools:
            raise OptionError("tool_choice is 'required', and there are no tools", hint="give some")
        return ToolChoice(() if mode == "none" else tuple(tools), mode == "required")
    hint = '{"type": "function", "function": {"name": "…"}}, or use one of ' + ", ".join(_MODES)
    given = checks.mapping("tool_choice", choice, f"as {hint}")
    function = given.get("function")
    name = cast(Mapping[str, Any], function).get("name") if isinstance(function, Mapping) else None
    if given.get("type") != "function" or not isinstance(name, str) or given.keys() > _KEYS:
        raise OptionError(f"tool_choice is {checks.shown(given)}", hint=f"use {hint}")
    named = tuple(tool for tool in tools if tool.name == name)
    if not named:
        known = ", ".join(tool.name for tool in tools) or "there are none"
        raise OptionError(f"tool_choice names {name!r}, which is none of the tools", hint=known)
    return ToolChoice(named, True)


_KEYS = {"type", "function"}


def _tool(name: str, value: object) -> Tool:
    of = 'as {"type": "function", "function": {"name": "…", "parameters": {…}}}'
    given = checks.mapping(name, value, of)
    if given.get("type") != "function":
        raise OptionError(
            f"{name} is of type {checks.shown(given.get('type'))}", hint="functions alone are known"
        )
    if given.keys() - _KEYS:
        checks.refuse_unknown(name, given.keys(), _KEYS)
    function = checks.mapping(f"{name}['function']", given.get("function"), "with a name")
    called = checks.text(f"{name}['function']['name']", function.get("name"))
    if not _NAME.fullmatch(called):
        raise OptionError(
            f"{name} is called {checks.shown(called)}",
            hint="use letters, digits and _ . : / -, at most 128",
        )
    if function.get("description") is not None:
        checks.text(f"{name}['function']['description']", function["description"])
    if function.get("strict") is not None:  # arguments are held to their schema in any case
        checks.flag(f"{name}['function']['strict']", function["strict"])
    return Tool(called, _schema(f"{name}['function']['parameters']", function), dict(given))


def _schema(name: str, function: Mapping[str, Any]) -> Mapping[str, Any]:
    if function.get("parameters") is None:  # as the OpenAI API has it, a function without any
        return {"type": "object", "properties": {}, "additionalProperties": False}
    schema = checks.mapping(name, function["parameters"], "that is a JSON schema")
    if schema.get("type", "object") != "object":
        raise OptionError(
            f"{name} is of type {checks.shown(schema['type'])}", hint="arguments are an object"
        )
    return {**schema, "type": "object"}
