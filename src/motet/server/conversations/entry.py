"""A conversation as the server has it: what was said, and the memory that it is computed in."""

import asyncio
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from motet.arrays import Int32
from motet.engine import AsyncConversation
from motet.errors import StateFileError
from motet.server.conversations.items import Said
from motet.server.state_dir import Version

NOTE = "motet.conversation"
"""The note of a state file that says what was said."""

_ID = "conv_[0-9a-f]{48}"

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
"""As OpenAI's API limits it."""


@dataclass(frozen=True)
class Mark:
    """Where a turn ended."""

    messages: int
    """How many had been said."""
    tokens: int | None
    """How many memory held then; None where it was not kept, or holds others there since: the same
    text may be other tokens as part of a prompt than as an answer."""


def new_id() -> str:
    """One that nobody guesses."""
    return "conv_" + secrets.token_hex(24)


def is_id(text: str) -> bool:
    """Whether it may be one."""
    return re.fullmatch(_ID, text) is not None


def _now() -> int:
    return int(time.time())


@dataclass(eq=False)
class Entry:
    """One of them."""

    owner: str
    id: str = field(default_factory=new_id)
    created: int = field(default_factory=_now)
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    store: bool = False
    """Whether it is saved after each turn."""
    said: list[Said] = field(default_factory=list[Said])
    marks: list[Mark] = field(default_factory=lambda: [Mark(0, 0)])
    """Where it began, and where each turn ended."""
    memory: AsyncConversation | None = None
    """None: what was said is computed again, or read from its file, for the next turn."""
    bytes: int = 0
    """Of memory, when it was looked at last, as are the tokens."""
    tokens: Int32 = field(default_factory=lambda: np.zeros(0, np.int32))
    filed: bool = False
    """Whether the file under its id is as it is now."""
    version: Version | None = None
    """Of the file under its id, as it was read or written here last."""
    answering: object | None = None
    """The turn that is under way, until what it adds is known."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while its memory is in use, and while it is saved."""
    used: float = field(default_factory=time.monotonic)

    @property
    def idle(self) -> bool:
        """Whether nothing is done with it."""
        return self.answering is None and not self.lock.locked()

    def forget(self) -> None:
        """Let its memory go."""
        if self.memory is not None:
            self.memory.close()
        self.memory, self.bytes = None, 0

    def hold(self, tokens: Int32, bytes: int) -> None:
        """Memory holds these now."""
        shorter = min(len(tokens), len(self.tokens))
        other = np.flatnonzero(tokens[:shorter] != self.tokens[:shorter])
        same = int(other[0]) if other.size else shorter
        self.marks = [
            mark if mark.tokens is not None and mark.tokens <= same else Mark(mark.messages, None)
            for mark in self.marks
        ]
        self.tokens, self.bytes = tokens, bytes

    def cut(self, turn: int) -> None:
        """Forget what was said after so many turns."""
        del self.marks[turn + 1 :]
        del self.said[self.marks[-1].messages :]
        self.filed = False

    def notes(self) -> dict[str, str]:
        """All but the memory, for a state file."""
        written = _Written(
            id=self.id,
            created=self.created,
            metadata=self.metadata,
            store=self.store,
            ids=[said.id for said in self.said],
            messages=[said.message for said in self.said],
            turns=[(mark.messages, mark.tokens) for mark in self.marks],
        )
        return {NOTE: written.model_dump_json()}

    @classmethod
    def read(cls, owner: str, notes: dict[str, str]) -> "Entry":
        """What ``notes`` gave. Raises StateFileError where they are another's, or make no sense."""
        if NOTE not in notes:
            raise StateFileError("holds no conversation of a server")
        try:
            found = _Written.model_validate_json(notes[NOTE])
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise StateFileError(f"its conversation is damaged at {place[:80]!r}") from None
        ends = [messages for messages, _ in found.turns]
        if len(found.ids) != len(found.messages) or sorted(ends) != ends:
            raise StateFileError("its conversation contradicts itself")
        if not ends or not 0 <= ends[0] <= ends[-1] <= len(found.messages):
            raise StateFileError("its conversation contradicts itself")
        if not all(isinstance(message.get("role"), str) for message in found.messages):
            raise StateFileError("its conversation has a message without a role")
        return cls(
            owner,
            found.id,
            found.created,
            found.metadata,
            found.store,
            [Said(m, i) for m, i in zip(found.messages, found.ids, strict=True)],
            [Mark(*turn) for turn in found.turns],
        )


class _Written(BaseModel):
    """How it stands in a file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, Field(pattern=f"^{_ID}$")]
    created: int
    metadata: Metadata
    store: bool
    ids: list[str]
    messages: list[dict[str, Any]]
    turns: list[tuple[NonNegativeInt, NonNegativeInt | None]]
