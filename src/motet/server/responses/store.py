"""The responses that are kept, so that others go on from them."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from motet.server.failures import Refused
from motet.server.responses.items import Item

_MOST = 4096
_BYTES = 128 << 20


@dataclass(frozen=True)
class Stored:
    """``body``: as clients get it. ``given``: the items of its request."""

    owner: str
    body: dict[str, Any]
    given: tuple[Item, ...]
    history: tuple[Item, ...]
    """All that the model read and wrote, from the conversation's beginning."""
    size: int
    """About how many bytes the items take."""


class Responses:
    """In memory, the least recently used leave first. Each is its owner's alone.

    ``most``, ``size``: responses and bytes kept.
    """

    def __init__(self, most: int = _MOST, size: int = _BYTES) -> None:
        self._most = most
        self._room = size
        self._kept: OrderedDict[str, Stored] = OrderedDict()

    def add(self, stored: Stored) -> None:
        """Keep it."""
        self._kept[stored.body["id"]] = stored
        self._room -= stored.size
        while self._room < 0 or len(self._kept) > self._most:
            self._room += self._kept.popitem(last=False)[1].size

    def get(self, owner: str, name: str, param: str | None = None) -> Stored:
        """Raises Refused where there is none, or another's: with 400 for a request's ``param``."""
        stored = self._kept.get(name)
        if stored is None or stored.owner != owner:
            status, code = (400, f"{param.removesuffix('_id')}_not_found") if param else (404, None)
            raise Refused(
                status,
                f"there is no response {name[:80]!r}; the least recently used are not kept",
                param=param,
                code=code,
            )
        self._kept.move_to_end(name)
        return stored

    def item(self, owner: str, name: str) -> Item:
        """An item of any response of the owner's. Raises Refused where there is none."""
        for stored in reversed(self._kept.values()):
            if stored.owner == owner:
                for item in stored.history:
                    if item.id == name:
                        return item
        raise Refused(400, f"there is no item {name[:80]!r} of a stored response", param="input")

    def remove(self, owner: str, name: str) -> None:
        """Raises as ``get`` does."""
        self._room += self.get(owner, name).size
        del self._kept[name]
