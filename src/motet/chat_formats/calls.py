"""Calls of tools, as callers get them."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants to be called.

    ``arguments``: JSON text, an object; cut short where the answer's finish_reason is "length" and
    this is its last call. ``id``: what the message of role "tool" names as its ``tool_call_id``.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ToolCallDelta:
    """What a chunk adds to the answer's call number ``index``.

    The first of a call has its ``name``, later ones have "". Their ``arguments`` put together are
    the call's.
    """

    index: int
    id: str
    name: str
    arguments: str


def joined(deltas: Iterable[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """The calls that ``deltas`` are parts of."""
    calls: dict[int, ToolCall] = {}
    for delta in deltas:
        begun = calls.get(delta.index, ToolCall(delta.id, delta.name, ""))
        calls[delta.index] = ToolCall(begun.id, begun.name, begun.arguments + delta.arguments)
    return tuple(calls.values())
