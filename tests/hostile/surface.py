"""Everything public that takes arguments, found by looking; and what may wrongly be given to it."""

import inspect
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

import motet
from motet.sampling import Sampling

CALLED = {("Context.restore", "into"), ("Model.load", "progress")}
CALLED |= {("motet.convert", "progress"), ("motet.quantize", "progress")}
CALLED |= {
    (f"{kind}.{name}", "progress") for kind in ("LLM", "AsyncLLM") for name in ("embed", "rank")
}
"""Parameters that may be functions: what these raise is the caller's own."""

BETWEEN_ROOMS = {
    "Memory.plan",
    "Memory.plan_encoding",
    "Memory.export",
    "Memory.fill",
    "Memory.fits",
}
"""What ``Context`` and state files call, with what only they make."""

RESULTS = {
    "AsyncConversation",
    "AsyncStream",
    "Chunk",
    "Completion",
    "ToolCall",
    "ToolCallDelta",
    "Conversation",
    "ConversationState",
    "Conversion",
    "Load",
    "Memory",
    "Model",
    "Output",
    "SlotState",
    "Stream",
}
RESULTS |= {"Tokenizer"}
"""Classes whose objects Motet makes (``Model.load`` does): constructors are nobody else's."""

ARGUED = {"__getitem__", "__contains__"}
"""Methods without a public name that take an argument."""


@dataclass(frozen=True)
class Function:
    """A function, method, constructor or property's setter."""

    owner: str
    """The class, or the module."""
    name: str
    """The method; "" for the constructor."""
    parameters: tuple[str, ...]
    required: tuple[str, ...]
    sets: bool = False

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}" if self.name else self.owner

    def call(self, holder: Any, arguments: dict[str, Any]) -> Any:
        """On an object of the class; a constructor on the class itself."""
        if self.sets:
            return setattr(holder, self.name, arguments["value"])
        if self.name == "__getitem__":
            return holder[arguments["entry"]]
        return getattr(holder, self.name)(**arguments) if self.name else holder(**arguments)


def surface() -> list[Function]:
    """Everything in ``motet.__all__`` but errors."""
    found: list[Function] = []
    for name in motet.__all__:
        exported = getattr(motet, name)
        if isinstance(exported, type) and issubclass(exported, Exception):
            continue
        if isinstance(exported, type):
            found += _methods(exported)
        else:
            found.append(_function("motet", name, inspect.signature(exported)))
    return [function for function in found if str(function) not in BETWEEN_ROOMS]


def _methods(kind: type) -> Iterator[Function]:
    if kind.__name__ not in RESULTS:
        constructor = _function(kind.__name__, "", inspect.signature(kind))
        if constructor.parameters:
            yield constructor
    for name, member in inspect.getmembers(kind):
        if isinstance(member, property):
            if member.fset is not None:
                yield Function(kind.__name__, name, ("value",), ("value",), sets=True)
        elif callable(member) and (not name.startswith("_") or name in ARGUED):
            signature = inspect.signature(getattr(kind, name))
            function = _function(kind.__name__, name, signature)
            if function.parameters:
                yield function


def _function(owner: str, name: str, signature: inspect.Signature) -> Function:
    names: list[str] = []
    required: list[str] = []
    for each in signature.parameters.values():
        if each.kind is each.VAR_KEYWORD:  # of generate and chat: the fields of Sampling
            names += [field.name for field in fields(Sampling)]
        elif each.name != "self":
            names.append(each.name)
            if each.default is each.empty:
                required.append(each.name)
    return Function(owner, name, tuple(names), tuple(required))


class _Unprintable:
    def __repr__(self) -> str:
        raise ValueError("not even this")

    def __index__(self) -> int:
        raise ValueError("no number")


class _BytesPath:
    def __fspath__(self) -> bytes:
        return b"x"


def _array_of(value: Any) -> Any:
    array = np.empty(1, object)
    array[0] = value
    return array


def _closed() -> io.BytesIO:
    file = io.BytesIO(b"x")
    file.close()
    return file


WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "-1": lambda: -1,
    "0": lambda: 0,
    "3": lambda: 3,
    "2**31": lambda: 2**31,
    "2**64": lambda: 2**64,
    "-2**64": lambda: -(2**64),
    "10**5000": lambda: 10**5000,
    "1.5": lambda: 1.5,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "1e300": lambda: 1e300,
    "5e-324": lambda: 5e-324,
    "1j": lambda: 1j,
    "Decimal": lambda: Decimal("0.5"),
    "Fraction": lambda: Fraction(1, 2),
    "np.int64": lambda: np.int64(2),
    "np.uint64": lambda: np.uint64(2**63),
    "np.float32": lambda: np.float32(0.5),
    "np.float64 nan": lambda: np.float64(math.nan),
    "np.bool": lambda: np.bool_(True),
    "array()": lambda: np.array(3),
    "array of ints": lambda: np.array([1, 2]),
    "array of floats": lambda: np.array([1.0, 2.0]),
    "array of text": lambda: np.array(["a", "b"]),
    "array of objects": lambda: np.array([None, {}], object),
    "array of nothing": lambda: np.empty(0),
    "2-d array": lambda: np.zeros((2, 3), np.int32),
    "''": lambda: "",
    "text": lambda: "abc",
    "auto": lambda: "auto",
    "surrogate": lambda: "a\ud800",
    "NUL": lambda: "a\0b",
    "long text": lambda: "x" * 5000,
    "bytes": lambda: b"Once",
    "bytearray": lambda: bytearray(b"Once"),
    "memoryview": lambda: memoryview(b"Once"),
    "[]": list,
    "[None]": lambda: [None],
    "[1, 2]": lambda: [1, 2],
    "[True]": lambda: [True],
    "[-1]": lambda: [-1],
    "[2**70]": lambda: [2**70],
    "[1.5]": lambda: [1.5],
    "['a']": lambda: ["a"],
    "['']": lambda: [""],
    "[b'a']": lambda: [b"a"],
    "[[1], 2]": lambda: [[1], 2],
    "[[[]]]": lambda: [[[]]],
    "[{}]": lambda: [{}],
    "()": lambda: (),
    "(1, 'a')": lambda: (1, "a"),
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset(["a"]),
    "{}": dict,
    "{'a': 1}": lambda: {"a": 1},
    "{1: 'a'}": lambda: {1: "a"},
    "{1: 2}": lambda: {1: 2},
    "{1: nan}": lambda: {1: math.nan},
    "{1: 1e300}": lambda: {1: 1e300},
    "{'a': 'b'}": lambda: {"a": "b"},
    "a message": lambda: {"role": "user", "content": "Hi"},
    "[no content]": lambda: [{"role": "user"}],
    "[content 5]": lambda: [{"role": "user", "content": 5}],
    "[role 5]": lambda: [{"role": 5, "content": "Hi"}],
    "[content [5]]": lambda: [{"role": "user", "content": [5]}],
    "[image]": lambda: [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
    "[part without text]": lambda: [{"role": "user", "content": [{"type": "text"}]}],
    "[part of a list type]": lambda: [{"role": "user", "content": [{"type": [], "text": "a"}]}],
    "[chat, message]": lambda: [[{"role": "user", "content": "Hi"}], {"role": "user"}],
    "[[]]": lambda: [[]],
    "range": lambda: range(3),
    "long range": lambda: range(10**12),
    "endless range": lambda: range(10**30),
    "generator": lambda: (x for x in [1, "a"]),
    "iterator": lambda: iter([b"a"]),
    "endless iterator": lambda: repeat(1),
    "object": lambda: object(),
    "unprintable": lambda: _Unprintable(),
    "bytes path": lambda: _BytesPath(),
    "type": lambda: dict,
    "Path type": lambda: Path,
    "function": lambda: len,
    "StringIO": lambda: io.StringIO("x"),
    "BytesIO": lambda: io.BytesIO(b"xyz"),
    "closed file": _closed,
    "module": lambda: np,
    "exception": lambda: ValueError("x"),
    "NotImplemented": lambda: NotImplemented,
    "Ellipsis": lambda: ...,
    "slice": lambda: slice(0, 1),
    "Sampling": lambda: Sampling(),
    "Batch": lambda: motet.Batch(),
    "SelfExtend": lambda: motet.SelfExtend(2, 8),
}
"""Values by what they are; few of them are right for any one parameter."""

WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "in a list": lambda value: [value],
    "after a right one": lambda value: [1, value],
    "in a tuple": lambda value: (value,),
    "as a value": lambda value: {1: value},
    "as a key": lambda value: {value: 1},
    "as a note": lambda value: {"a": value},
    "as a role": lambda value: {"role": value, "content": "Hi"},
    "as content": lambda value: {"role": "user", "content": value},
    "as text": lambda value: {"type": "text", "text": value},
    "as a type": lambda value: {"type": value, "text": "Hi"},
    "as an array": _array_of,
}
"""What a wrong value may be inside of."""
