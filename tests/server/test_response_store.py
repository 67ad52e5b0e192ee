"""How many responses are kept."""

import pytest

from motet.server.failures import Refused
from motet.server.responses.items import Message, read_item
from motet.server.responses.store import Responses, Stored


def stored(name: str, size: int = 1) -> Stored:
    content = [{"type": "input_text", "text": name}]
    item = read_item({"type": "message", "role": "user", "id": f"msg_{name}", "content": content})
    return Stored("me", {"id": name}, (item,), (item,), size)


def test_the_least_recently_used_leave() -> None:
    kept = Responses(most=2)
    for name in "ab":
        kept.add(stored(name))
    kept.get("me", "a")
    kept.add(stored("c"))
    with pytest.raises(Refused, match="'b'"):
        kept.get("me", "b")
    assert [kept.get("me", name).body["id"] for name in "ac"] == ["a", "c"]


def test_what_is_too_large_is_not_kept() -> None:
    kept = Responses(size=10)
    for name in "abc":
        kept.add(stored(name, 4))
    kept.remove("me", "b")
    kept.add(stored("d", 6))
    assert kept.get("me", "c").size + kept.get("me", "d").size == 10
    kept.add(stored("e", 11))
    with pytest.raises(Refused):
        kept.get("me", "e")


def test_items_are_found_by_their_ids() -> None:
    kept = Responses()
    kept.add(stored("a"))
    assert isinstance(kept.item("me", "msg_a"), Message)
    for owner, name in (("me", "msg_b"), ("you", "msg_a")):
        with pytest.raises(Refused, match="no item"):
            kept.item(owner, name)
