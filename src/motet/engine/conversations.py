"""Conversations: sequences that stay in memory until they are closed, as their owners see them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, BinaryIO, Protocol
from weakref import ref

from motet import checks
from motet.errors import ConversationBusy, MotetError
from motet.sampling import Sampling

File = str | PathLike[str] | BinaryIO


class Claimant(Protocol):
    """A request for an answer in a conversation."""

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it; known in every thread at any time."""
        ...


@dataclass(eq=False)
class Kept:
    """A conversation as the engine has it."""

    seq: int | None = None
    """Its sequence; None before it first holds anything."""
    claimed: "ref[Claimant] | None" = None
    """The request that came last. It refers to its conversation, which is to be dropped with it."""
    closed: bool = False
    """The engine takes its sequence back before its next step."""

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        request = self.claimed and self.claimed()
        return request is not None and not request.ended

    def claim(self, request: Claimant) -> None:
        """Let ``request`` be the one that goes on. Raises ConversationBusy, and MotetError when it
        is closed."""
        self.require_free()
        self.claimed = ref(request)

    def require_free(self) -> None:
        """Raise ConversationBusy while an answer is under way, MotetError when it is closed."""
        if self.closed:
            raise MotetError("the conversation is closed")
        if self.busy:
            raise ConversationBusy(
                "an answer is under way in the conversation",
                hint="wait until it has ended, or go on in a fork",
            )


@dataclass(frozen=True)
class ConversationState:
    """A conversation at one moment, between two steps of the engine."""

    length: int
    """Tokens held."""
    bytes: int
    """Of memory that closing it would give back: what it shares with no other sequence."""
    positions: tuple[tuple[int, int], ...]
    """Those that ``rewind`` can go back to exactly: ranges, first and last one, ascending."""
    busy: bool
    """Whether an answer is under way; then the rest is what its last step left."""


@dataclass(frozen=True)
class AnswerState:
    """An answer under way."""

    prompt_tokens: int
    computed_tokens: int
    """Of the prompt, those in memory."""
    tokens: int
    """Chosen so far."""
    token_limit: int
    sampling: Sampling


@dataclass(frozen=True)
class SlotState:
    """A sequence at one moment, between two steps of the engine."""

    number: int
    length: int
    """Tokens held."""
    kept: bool
    """Whether it is a conversation's."""
    answer: AnswerState | None
    """What is written in it."""

    @property
    def busy(self) -> bool:
        """Whether an answer is written in it."""
        return self.answer is not None


class Keeper(Protocol):
    """What an engine does with conversations; ``keeping.Keeping``."""

    def state(self, kept: Kept) -> ConversationState: ...

    def tokens(self, kept: Kept) -> list[int]: ...

    def fork(self, kept: Kept, position: int | None) -> Kept: ...

    def rewind(self, kept: Kept, position: int) -> None: ...

    def save(self, kept: Kept, file: Any, notes: Mapping[str, str]) -> int: ...

    def close(self, kept: Kept) -> None: ...


class Conversation:
    """A sequence of an LLM that is nobody else's and stays in memory until it is closed.

    ``llm.generate(prompt, conversation=this)`` and ``llm.chat`` go on in it. Whatever is done with
    it is done between two steps of the engine, in any thread, while others are answered. Use it as
    a context manager, or ``close`` it; it also closes when it is dropped.
    """

    def __init__(self, keeper: Keeper, kept: Kept, owner: object) -> None:
        """``owner`` is kept alive with this."""
        self.keeper = keeper
        self.kept = kept
        self._owner = owner

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return self.state().length

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.kept.closed

    def state(self) -> ConversationState:
        """How much it holds, and where it can go back to. Raises MotetError when it is closed."""
        return self.keeper.state(self.kept)

    def tokens(self) -> list[int]:
        """The token ids that it holds. Raises MotetError when it is closed."""
        return self.keeper.tokens(self.kept)

    def fork(self, position: int | None = None) -> "Conversation":
        """Another conversation that holds the same, or what comes before ``position``.

        Nothing is computed or copied until one of the two goes on. Raises OptionError for a
        position beyond its end, CannotRewind for one that memory can't go back to, CapacityError
        when no sequence is free, ConversationBusy while an answer is under way.
        """
        at = checks.optional_whole("position", position)
        return Conversation(self.keeper, self.keeper.fork(self.kept, at), self._owner)

    def rewind(self, position: int) -> None:
        """Forget the token at ``position`` and all that follow.

        Raises OptionError for a position beyond its end, CannotRewind (with the nearest position
        before it) for one that memory can't go back to, ConversationBusy while an answer is under
        way or it is being saved; then it is as it was.
        """
        self.keeper.rewind(self.kept, checks.whole("position", position))

    def save(self, file: File, notes: Mapping[str, str] | None = None) -> int:
        """Write it to a state file, with ``notes`` of your own; returns how many tokens it holds.

        Others go on meanwhile, and an answer in it waits. Raises ConversationBusy while an answer
        is under way, and what ``LLM.save`` raises.
        """
        said = {} if notes is None else checks.text_by_name("notes", notes)
        return self.keeper.save(self.kept, checks.file(file, "write"), said)

    def close(self) -> None:
        """Give its memory back, once an answer under way has ended. Twice does no harm."""
        self.keeper.close(self.kept)

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.kept.closed = True  # and no more, for this may be run anywhere

    def __repr__(self) -> str:
        what = "closed" if self.closed else "an answer is under way" if self.kept.busy else "idle"
        return f"<motet.{type(self).__name__}: {what}>"


class AsyncConversation:
    """A conversation of an ``AsyncLLM``, whose methods are awaited."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = checks.instance(
            "conversation", conversation, Conversation, "give what llm.conversation() gives"
        )

    @property
    def closed(self) -> bool:
        """See ``Conversation.closed``."""
        return self.conversation.closed

    async def state(self) -> ConversationState:
        """See ``Conversation.state``."""
        return await asyncio.to_thread(self.conversation.state)

    async def tokens(self) -> list[int]:
        """See ``Conversation.tokens``."""
        return await asyncio.to_thread(self.conversation.tokens)

    async def fork(self, position: int | None = None) -> "AsyncConversation":
        """See ``Conversation.fork``."""
        return AsyncConversation(await asyncio.to_thread(self.conversation.fork, position))

    async def rewind(self, position: int) -> None:
        """See ``Conversation.rewind``."""
        await asyncio.to_thread(self.conversation.rewind, position)

    async def save(self, file: File, notes: Mapping[str, str] | None = None) -> int:
        """See ``Conversation.save``. A task that is cancelled meanwhile leaves it to be done."""
        return await asyncio.to_thread(self.conversation.save, file, notes)

    def close(self) -> None:
        """See ``Conversation.close``, which never waits."""
        self.conversation.close()

    async def __aenter__(self) -> "AsyncConversation":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self.conversation).replace("Conversation", "AsyncConversation")
