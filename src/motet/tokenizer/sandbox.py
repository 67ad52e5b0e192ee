"""Chat templates come with the model, untrusted: a Jinja environment that keeps them small.

Beyond Jinja's own sandbox, a template may take so much time and make so much text, and no more.
Import this only to render a template, for jinja2 takes a while to import.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sized
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_SECONDS = 5.0
MAX_CHARACTERS = 1 << 24
"""Of all strings that a rendering makes, intermediate ones included, beyond what it is given."""
_SHARE = 64
"""How many times over the text of the messages may be written, intermediate strings included."""
_ELEMENT = 16
"""Characters that an element of a list or dictionary counts as, beside its text."""
_MAX_BITS = 4096
"""Of an integer that a template computes."""
_FILTERS = frozenset(
    {"abs", "bool", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first"}
    | {"float", "indent", "int", "items", "join", "last", "length", "list", "lower", "map", "max"}
    | {"min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select"}
    | {"selectattr", "sort", "string", "title", "trim", "truncate", "unique", "upper", "wordcount"}
)
"""Jinja's others make more text than they are given, or are no use in a prompt."""
_WIDE = re.compile(r"\{[^{}]*\d{5}[^{}]*\}|\{[^{}]*:[^{}]*\{|%[-+ #0]*(\d*\.?\d{5}|[\d.]*\*)")
"""A format that asks for a width of five digits, or takes it from an argument."""


class TemplateTooLarge(Exception):
    """The template makes too much text, or takes too long."""


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """For one rendering of one template; its time begins to count when it is made."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, given: object) -> None:
        """``given``: what the template will be rendered with; it sets how much text is too much."""
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            finalize=self.count,
        )
        self._left = MAX_CHARACTERS
        self._deadline = time.monotonic() + MAX_SECONDS
        self._left += _SHARE * self._size(given)
        self.globals = {
            "range": self.globals["range"],
            "namespace": self.globals["namespace"],
            "dict": lambda *args, **entries: dict(*args, **entries),
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: datetime.now().strftime(form),
        }
        known = {name: self.filters[name] for name in _FILTERS & self.filters.keys()}
        self.filters = {name: self._counted(name, run) for name, run in known.items()}
        self.filters["tojson"] = self._tojson

    def spend(self, characters: int) -> None:
        """Count ``characters``, and look at the clock."""
        self._left -= characters
        if self._left < 0:
            raise TemplateTooLarge("it makes too much text")
        if time.monotonic() > self._deadline:
            raise TemplateTooLarge(f"it takes more than {MAX_SECONDS:g} seconds")

    def count(self, value: Any) -> Any:
        """``value``, its text counted."""
        self.spend(self._size(value))
        return value

    def concatenate(self, *values: Any) -> str:
        """The ``~`` operator."""
        for value in values:
            self.count(value)
        return "".join(map(str, values))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int):
            bits = right if operator == "**" else right.bit_length()
            if left.bit_length() + bits > _MAX_BITS:
                raise TemplateTooLarge("it computes too large a number")
        elif operator == "*" and (isinstance(left, int) or isinstance(right, int)):
            times, value = (left, right) if isinstance(left, int) else (right, left)
            self.spend(self._size(value) * max(times, 1))
        elif operator == "%" and isinstance(left, str):
            self._check_call("format", [left, right])
        else:
            self.spend(self._size(left) + self._size(right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, function: Any, /, *args: Any, **named: Any) -> Any:
        method = getattr(function, "__wrapped__", function)
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            self._check_call(method.__name__, [owner, *args, *named.values()])
        return super().call(context, function, *args, **named)

    def _check_call(self, name: str, args: list) -> None:
        """Count what a filter or a method of strings is about to make of ``args``."""
        text = args[0] if args and isinstance(args[0], str) else ""
        number = next((arg for arg in args[1:] if isinstance(arg, int)), None)
        texts = [arg for arg in args[1:] if isinstance(arg, str)]
        size = self._size(args)
        if name in ("center", "ljust", "rjust", "zfill"):
            size += number or 0
        elif name == "expandtabs":
            size += text.count("\t") * (8 if number is None else number)
        elif name == "indent":
            width = len(texts[0]) if texts else 4 if number is None else number
            size += (text.count("\n") + 1) * width
        elif name == "replace" and len(texts) == 2:
            size += (text.count(texts[0]) + 1) * len(texts[1])
        elif name == "join":
            counts = [len(arg) for arg in args if isinstance(arg, Sized) and arg is not text]
            size += max(counts, default=0) * max(map(len, [text, *texts]))
        elif name in ("format", "format_map") and _WIDE.search(text.replace("%%", "")):
            raise TemplateTooLarge("it asks for text of a great width")
        self.spend(size)

    def _counted(self, name: str, run: Callable) -> Callable:
        """The filter ``run``, what it makes counted; Jinja's mark on what it is passed is kept."""
        passed = 1 if hasattr(run, "jinja_pass_arg") else 0

        @wraps(run)
        def filtered(*args: Any, **named: Any) -> Any:
            given = [list(arg) if isinstance(arg, Iterator) else arg for arg in args[passed:]]
            self._check_call(name, [*given, *named.values()])
            return run(*args[:passed], *given, **named)

        return filtered

    def _tojson(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """As transformers defines it: Jinja's own escapes HTML."""
        self.spend(self._size(value) * (min(indent or 0, 1000) + 1))
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    def _size(self, value: object) -> int:
        """Characters of ``value``; stops counting at what is left, for values nest without end."""
        size, waiting = 0, [value]
        while waiting and size <= self._left:
            part = waiting.pop()
            if isinstance(part, str):
                size += len(part)
            elif isinstance(part, Mapping):
                waiting += [*part.keys(), *part.values()]
            elif isinstance(part, list | tuple):
                waiting += part
            size += _ELEMENT
        return size

    def _generate(self, source: nodes.Template, *args: Any, **named: Any) -> str:
        return super()._generate(_Counting().visit(source), *args, **named)


class _Counting(NodeTransformer):
    """Makes every turn of a loop and every run of a macro count itself and its fixed text."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._counting(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._counting(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._counting(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("concatenate", node.nodes)

    def _counting(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        text = sum(len(part.data) for part in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("spend", [nodes.Const(text + _ELEMENT)])))
        return node


def _call(method: str, args: list) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(method), args, [], None, None)


class _Generation(Extension):
    """``{% generation %}`` marks an assistant's text, for training: here it is just its body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))
