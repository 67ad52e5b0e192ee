"""Checks of what callers give, for the whole public interface.

Each returns the value as the code behind it uses it (a Python int for one of NumPy's, a Path for
text), or raises an OptionError with the argument's name, the value and what to give instead. They
are own code because validation libraries know no hints, take True and 3.0 for whole numbers unless
told otherwise at every place, and the best known one takes ten times as long to import as motet.
"""

import difflib
import inspect
import io
import math
import os
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from numbers import Real
from operator import index
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, cast

import numpy as np

from motet.errors import OptionError

Kind = TypeVar("Kind")
Checked = TypeVar("Checked", bound=Callable[..., Any])

MOST, LEAST = (1 << 128) - 1, -(1 << 128)
"""Larger whole numbers mean nothing anywhere, and messages can't show them."""
MANY = 1 << 24
"""Items of a list that anybody may mean."""

_SHOWN = 80
"""Characters of a value that a message shows."""


def shown(value: object) -> str:
    """A value as messages show it: as Python writes it, on one line, in its beginning."""
    try:
        if is_bytes(value):
            value = bytes(cast(bytes, value)[:_SHOWN])
        text = " ".join(_SHORT.repr(value).split())
    except Exception:  # a whole number of thousands of digits, an object that can't be written
        return f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def is_bytes(value: object) -> bool:
    """Whether it is a string of bytes, which is no text, nor a list of numbers."""
    return isinstance(value, bytes | bytearray | memoryview)


def whole(name: str, value: object, low: int = 0, high: int = MOST) -> int:
    """A whole number from ``low`` to ``high``; True and False are none."""
    try:
        number = None if isinstance(value, bool) else index(cast(Any, value))
    except MemoryError:
        raise
    except Exception:
        number = None
    if number is None or not low <= number <= high:
        bounds = "" if low == LEAST else f" from {low}{' up' if high == MOST else f' to {high}'}"
        raise OptionError(f"{name} is {shown(value)}", hint=f"use a whole number{bounds}")
    return number


def optional_whole(name: str, value: object, low: int = 0, high: int = MOST) -> int | None:
    """As ``whole``, or None."""
    return None if value is None else whole(name, value, low, high)


def number(name: str, value: object, low: float, high: float) -> float:
    """A finite number from ``low`` to ``high``; True and False are none."""
    found = math.nan
    if not isinstance(value, bool) and isinstance(value, Real):
        with suppress(OverflowError):
            found = float(value)
    if low <= found <= high:
        return found
    raise OptionError(f"{name} is {shown(value)}", hint=f"use a number from {low:g} to {high:g}")


def optional_seconds(name: str, value: object) -> float | None:
    """So many seconds, or None where there is no end."""
    return None if value is None else number(name, value, 0, 1e9)


def flag(name: str, value: object) -> bool:
    """True or False."""
    if isinstance(value, bool | np.bool_):
        return bool(cast(object, value))
    raise OptionError(f"{name} is {shown(value)}", hint="use True or False")


def choice(name: str, value: object, known: Collection[str]) -> str:
    """One of some words."""
    if isinstance(value, str) and value in known:
        return value
    raise OptionError(f"{name} is {shown(value)}", hint=f"use one of {', '.join(known)}")


def text(name: str, value: object) -> str:
    """Text."""
    if isinstance(value, str):
        return value
    hint = "decode them first" if is_bytes(value) else "use text"
    raise OptionError(f"{name} is {shown(value)}", hint=hint)


def texts(name: str, value: object, each: str) -> tuple[str, ...]:
    """One text or several, none of them empty. ``each``: what one is called."""
    given = (value,) if isinstance(value, str) else collection(name, value, "texts")
    found = tuple(text(each, part) for part in given)
    if "" in found:
        raise OptionError(f"{each} is ''", hint="use text of some length")
    return found


def listed(name: str, value: object, of: str) -> Sequence[Any]:
    """A list, a tuple or another sequence; text and bytes are none. ``of``: what it has."""
    if isinstance(value, Sequence):
        return cast(Sequence[Any], collection(name, cast(object, value), of))
    made = isinstance(value, Iterable) and not isinstance(value, Mapping | str)
    hint = f"use a list of {of}" + "; list(…) makes one of this" * made
    raise OptionError(f"{name} is {shown(cast(object, value))}", hint=hint)


def collection(name: str, value: object, of: str, most: int = MANY) -> Collection[Any]:
    """A list, a set, an array or the like, of at most so many. ``of``: what it has."""
    count = None
    no_list = is_bytes(value) or isinstance(value, str | Mapping)
    if isinstance(value, Collection) and not no_list:
        with suppress(TypeError):  # of an array without axes
            count = _length(cast(Collection[Any], value))
    if count is None:
        raise OptionError(f"{name} is {shown(cast(object, value))}", hint=f"use a list of {of}")
    if count > most:
        raise OptionError(f"{name} has more than {most} {of}", hint="use fewer at once")
    return cast(Collection[Any], value)


def mapping(name: str, value: object, of: str) -> Mapping[Any, Any]:
    """A dictionary. ``of``: what it has."""
    if isinstance(value, Mapping):
        return cast(Mapping[Any, Any], value)
    raise OptionError(f"{name} is {shown(value)}", hint=f"use a dictionary {of}")


def text_by_name(name: str, value: object) -> dict[str, str]:
    """A dictionary of texts by text."""
    found = mapping(name, value, "of texts by name")
    for key, each in found.items():
        text(f"a key of {name}", key)
        text(f"{name}[{shown(key)}]", each)
    return dict(found)


def instance(name: str, value: object, kind: type[Kind], hint: str) -> Kind:
    """An object of a class. ``hint``: how to come by one."""
    if isinstance(value, kind):
        return value
    raise OptionError(f"{name} is {shown(value)}", hint=hint)


def function(name: str, value: Kind, of: str) -> Kind:
    """Something that can be called. ``of``: its arguments."""
    if callable(value):
        return value
    raise OptionError(f"{name} is {shown(value)}", hint=f"use a function of {of}")


def path(name: str, value: object, hint: str) -> Path:
    """A path, as text or as a path object. ``hint``: what it is to lead to."""
    found = _path(value)
    if found is None:
        raise OptionError(f"{name} is {shown(value)}", hint=hint)
    return found


def file(value: object, does: Literal["read", "write"], *, seeks: bool = False) -> Path | BinaryIO:
    """A path, or a binary file object that ``does`` this and, with ``seeks``, can go back."""
    found = _path(value)
    if found is not None:
        return found
    if isinstance(value, type) or not callable(getattr(value, does, None)):
        raise OptionError(f"file is {shown(value)}", hint="use a path, or an open binary file")
    given: Any = value
    if isinstance(given, io.TextIOBase):
        raise OptionError("the file object takes text", hint="open it in binary mode")
    if getattr(given, "closed", False):
        raise OptionError("the file object is closed", hint="open it again, or give its path")
    if not getattr(given, "readable" if does == "read" else "writable", _yes)():
        raise OptionError(f"the file object can't {does}", hint="open it in the other mode")
    if seeks and not getattr(given, "seekable", lambda: hasattr(given, "seek"))():
        raise OptionError("the file object can't seek", hint="give its path, or a BytesIO")
    return given


def refuse_unknown(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise OptionError for a name among ``given`` that is not an option of ``function``.

    It says which of the ``known`` ones may be meant.
    """
    names = list(known)
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(names)}"
            raise OptionError(f"{function} has no option {name!r}", hint=hint) from None


def named(checked: Checked) -> Checked:
    """A decorator of functions, and of classes for the sake of their constructor.

    A keyword that there is not is an error as ``refuse_unknown`` has it.
    """
    if isinstance(checked, type):
        kind: Any = checked
        kind.__init__ = _named(kind.__init__, kind.__name__)
        return kind
    return cast(Checked, _named(checked, checked.__qualname__.removesuffix(".__init__")))


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    known = [each for each in inspect.signature(function).parameters if each != "self"]

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            refuse_unknown(name, kwargs, known)
            raise

    return called


def _path(value: object) -> Path | None:
    if isinstance(value, os.PathLike) and not isinstance(value, type):
        value = os.fspath(cast("os.PathLike[Any]", value))
    return Path(value) if isinstance(value, str) and value else None


def _length(value: Collection[Any]) -> float:
    try:
        return len(value)
    except OverflowError:  # of a range
        return math.inf


def _yes() -> bool:
    return True


def _short() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _SHOWN
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = 6
    return short


_SHORT = _short()
