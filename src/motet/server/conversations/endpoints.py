"""/v1/conversations: OpenAI's endpoints, and Motet's own to fork, rewind, save and restore."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field, model_validator

from motet.server.conversations.entry import Entry, Metadata
from motet.server.conversations.items import Item, items_of, messages_of
from motet.server.conversations.registry import Conversations, owner_of
from motet.server.failures import Refused
from motet.server.sampling import Asked
from motet.server.service import CurrentService

router = APIRouter(prefix="/v1/conversations", tags=["conversations"])

Owner = Annotated[str, Depends(owner_of)]
Name = Annotated[str, Field(max_length=256)]
Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]


def _registry(service: CurrentService) -> Conversations:
    service.require_ready()
    return service.conversations


Registry = Annotated[Conversations, Depends(_registry)]


async def _entry(id: str, registry: Registry, owner: Owner) -> Entry:
    return await registry.get(id, owner)


Found = Annotated[Entry, Depends(_entry)]


class CreateBody(Asked):
    """A new conversation."""

    items: Annotated[list[Item], Field(max_length=20)] | None = None
    metadata: Metadata | None = None
    store: Annotated[bool, Field(description="Save it to the state directory after each turn.")] = (
        False
    )


class UpdateBody(Asked):
    """What is said about a conversation."""

    metadata: Metadata | None = None
    store: bool | None = None


class ItemsBody(Asked):
    """Items to add at the end."""

    items: Annotated[list[Item], Field(min_length=1, max_length=20)]


class RewindBody(Asked):
    """Where to go back to."""

    turns: Annotated[
        int | None, Field(ge=1, description="So many turns, the last ones, are forgotten.")
    ] = None
    position: Annotated[
        int | None,
        Field(
            ge=0, description="Tokens held when a turn had ended; memory has to come back there."
        ),
    ] = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "RewindBody":
        if (self.turns is None) == (self.position is None):
            raise ValueError("give either turns or position")
        return self


class ForkBody(Asked):
    """A fork of all, or of what had been said before the last turns."""

    turns: Annotated[int | None, Field(ge=0, description="Without so many, the last ones.")] = None


class SaveBody(Asked):
    """A name in the state directory; none: the conversation's id."""

    name: Name | None = None


class RestoreBody(Asked):
    """What to restore."""

    name: Name


@router.post("")
async def create(body: CreateBody, registry: Registry, owner: Owner) -> dict[str, Any]:
    """A new conversation, with what was said so far."""
    said = messages_of(body.items or [])
    return await _facts(
        registry, await registry.create(owner, said, body.metadata or {}, store=body.store)
    )


@router.get("")
async def every(
    registry: Registry, owner: Owner, limit: Limit = 20, after: str | None = None
) -> dict[str, Any]:
    """Those that are open, the newest first."""
    entries = registry.all_of(owner)
    return _page([_brief(entry) for entry in entries], limit, after)


@router.post("/restore")
async def restore(body: RestoreBody, registry: Registry, owner: Owner) -> dict[str, Any]:
    """Go on with one that was saved, bit for bit."""
    return await _facts(registry, await registry.restore(body.name, owner))


@router.get("/saved")
async def saved(registry: Registry, owner: Owner) -> dict[str, Any]:
    """What is saved; ``error`` says why a file can't be restored."""
    return {"object": "list", "data": await registry.saved(owner)}


@router.delete("/saved/{name}")
async def delete_saved(name: str, registry: Registry, owner: Owner) -> dict[str, Any]:
    """Delete what was saved under a name."""
    await registry.delete_saved(name, owner)
    return {"name": name, "object": "conversation.saved.deleted", "deleted": True}


@router.get("/{id}")
async def one(entry: Found, registry: Registry) -> dict[str, Any]:
    """A conversation, and what it holds in memory."""
    return await _facts(registry, entry)


@router.post("/{id}")
async def update(entry: Found, body: UpdateBody, registry: Registry) -> dict[str, Any]:
    """Replace its metadata; say whether it is saved after each turn."""
    metadata = entry.metadata if body.metadata is None else body.metadata
    await registry.update(entry, metadata, body.store)
    return await _facts(registry, entry)


@router.delete("/{id}")
async def delete(entry: Found, registry: Registry) -> dict[str, Any]:
    """Let its memory go, and the file of its id; what was saved under another name stays."""
    await registry.delete(entry)
    return {"id": entry.id, "object": "conversation.deleted", "deleted": True}


@router.get("/{id}/items")
async def items(
    entry: Found, limit: Limit = 20, order: Order = "desc", after: str | None = None
) -> dict[str, Any]:
    """What was said."""
    found = items_of(entry.said)
    return _page(found if order == "asc" else found[::-1], limit, after)


@router.post("/{id}/items")
async def add_items(entry: Found, body: ItemsBody, registry: Registry) -> dict[str, Any]:
    """Add to what was said, without an answer."""
    said = messages_of(body.items)
    await registry.add(entry, said)
    return _page(items_of(said), len(body.items), None)


@router.get("/{id}/items/{item}")
async def item(entry: Found, item: str) -> dict[str, Any]:
    """One of them."""
    for each in items_of(entry.said):
        if each["id"] == item:
            return each
    raise Refused(404, f"there is no item {item[:80]!r} in the conversation")


@router.post("/{id}/fork")
async def fork(entry: Found, registry: Registry, body: ForkBody | None = None) -> dict[str, Any]:
    """Another conversation in which the same was said; nothing is copied until one goes on."""
    turns = None if body is None else body.turns
    turn = None if turns is None else _turn(entry, turns)
    return await _facts(registry, await registry.fork(entry, turn))


@router.post("/{id}/rewind")
async def rewind(entry: Found, body: RewindBody, registry: Registry) -> dict[str, Any]:
    """Go back to where a turn ended: by turns always, to a position where memory can; else 409."""
    exactly = body.position is not None
    if body.position is not None:
        turn = registry.turn_at(entry, body.position)
    else:
        turn = _turn(entry, body.turns or 0)
    await registry.rewind(entry, turn, exactly=exactly)
    return await _facts(registry, entry)


@router.post("/{id}/save")
async def save(entry: Found, registry: Registry, body: SaveBody | None = None) -> dict[str, Any]:
    """Write it to the state directory; others go on meanwhile."""
    name = (body and body.name) or entry.id
    size = await registry.save(entry, name)
    return {"id": entry.id, "object": "conversation.saved", "name": name, "bytes": size}


def _turn(entry: Entry, back: int) -> int:
    """The number of the turn so many before the last. Raises Refused."""
    turns = len(entry.marks) - 1
    if back > turns:
        raise Refused(409, f"the conversation has {turns} turns, and {back} can't be taken back")
    return turns - back


def _brief(entry: Entry) -> dict[str, Any]:
    """What is known without asking the engine."""
    return {
        "id": entry.id,
        "object": "conversation",
        "created_at": entry.created,
        "metadata": entry.metadata,
        "store": entry.store,
        "answering": entry.answering is not None,
        "turns": [{"messages": m.messages, "position": m.tokens} for m in entry.marks[1:]],
    }


async def _facts(registry: Conversations, entry: Entry) -> dict[str, Any]:
    """All, with what memory holds of it; None where it is not in memory."""
    memory, state = None, await registry.measure(entry)
    if state is not None:
        positions = [list(each) for each in state.positions]
        memory = {"tokens": state.length, "bytes": state.bytes, "positions": positions}
    return {**_brief(entry), "memory": memory}


def _page(found: list[dict[str, Any]], limit: int, after: str | None) -> dict[str, Any]:
    """A part of a list, as OpenAI's API gives it."""
    if after is not None:
        places = [place for place, each in enumerate(found) if each["id"] == after]
        if not places:
            raise Refused(404, f"after: there is no {after[:80]!r}", param="after")
        found = found[places[0] + 1 :]
    page = found[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }
