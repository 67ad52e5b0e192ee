"""JSON by strangers: refused before it is parsed where that would take long or much memory."""

import json
from typing import Any

import numpy as np

MOST_ITEMS = 1 << 17
"""Elements of lists and tables together. Parsing so many takes a twentieth of a second."""

_OPENING_AND_NEXT = b"[{,"
_QUOTE = ord('"')


def parse(text: bytes | bytearray) -> Any:
    """What ``text``, UTF-8, says.

    Raises ValueError if it is not JSON, has too many items or nests too deeply.
    """
    if items(text) > MOST_ITEMS:
        raise ValueError(f"it has more than {MOST_ITEMS} items")
    try:
        return json.loads(text.decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except ValueError:
        raise ValueError("it is not JSON") from None


def items(text: bytes | bytearray) -> int:
    """How many brackets open and commas stand outside of strings: at least as many as items."""
    # Escaped backslashes go first, so that a quote after one that is left is escaped.
    plain = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    data = np.frombuffer(plain, np.uint8)
    inside = np.bitwise_xor.accumulate(data == _QUOTE)
    counted = np.zeros(256, bool)
    counted[list(_OPENING_AND_NEXT)] = True
    return int(np.count_nonzero(counted[data] & ~inside))
