"""The server's conversations: who may see them, which are in memory, and which are saved."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import Request

from motet.async_llm import AsyncLLM
from motet.engine import AsyncConversation, ConversationState
from motet.errors import CannotRewind, CapacityError, MotetError
from motet.server.conversations.entry import Entry, Mark, is_id, new_id
from motet.server.conversations.files import Files
from motet.server.conversations.items import Message, Said
from motet.server.failures import Refused
from motet.server.replies import dumped
from motet.server.security import key_of

if TYPE_CHECKING:
    from motet.server.service import Service

MOST_BYTES = 32 << 20
"""That is said in a conversation, as JSON."""
_log = logging.getLogger("motet")


def owner_of(request: Request) -> str:
    """Whose conversations a request is about: those of its API key; all are one's without keys."""
    key = key_of(request.scope)
    return "open" if key is None else hashlib.sha256(key.encode()).hexdigest()[:32]


class Turn:
    """An answer in a conversation: the messages before it, and the memory that it goes on in."""

    def __init__(self, messages: list[Message], conversation: AsyncConversation | None) -> None:
        self.messages = messages
        self.conversation = conversation
        """None where all that may be kept in memory is in use: everything is computed then."""
        self.added: list[Message] = []
        self.entry: Entry | None = None

    def add(self, messages: Sequence[Message]) -> None:
        """What was asked, and what was answered: part of the conversation once the turn ends.

        To be called before the client is told that the answer is whole: its next request waits for
        the turn's end from now on, and is not refused.
        """
        self.added += messages
        if self.entry is not None and self.entry.answering is self:
            self.entry.answering = None


class Conversations:
    """All conversations of a service. Used on the event loop's thread alone.

    As many as fit are in memory: half of the sequences and of the bytes at most, so that other
    requests run. The least recently used one gives way: it is saved, where there is a state
    directory, and otherwise its messages are computed again for its next turn, to the same bits.
    """

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._all: dict[str, Entry] = {}
        self._model: AsyncLLM | None = None
        settings = service.settings
        self._shared = settings.shared_state
        self._files = Files(settings.state_dir, lambda: self._llm, shared=self._shared)

    async def create(
        self, owner: str, said: list[Said], metadata: dict[str, str], *, store: bool
    ) -> Entry:
        """A new one. Raises Refused where there are too many, or it can't be saved."""
        if self._llm.model.config.decoder_start is not None:
            raise Refused(501, "the model is an encoder-decoder, and keeps no conversations")
        store = store or self._shared
        if store:
            self._files.require()
        self._require_room()
        entry = Entry(owner, metadata=metadata, store=store, said=said, marks=[Mark(len(said), 0)])
        self._all[entry.id] = entry
        await self._store(entry)
        return entry

    def all_of(self, owner: str) -> list[Entry]:
        """An owner's that are open, the newest first."""
        self._expire()
        mine = [entry for entry in self._all.values() if entry.owner == owner]
        return sorted(mine, key=lambda entry: entry.created, reverse=True)

    async def get(self, number: str, owner: str) -> Entry:
        """The one of this id, which may have to be looked for on the disk. Raises Refused."""
        self._expire()
        entry = self._all.get(number)
        if entry is not None and entry.idle and not await self._files.is_current(entry):
            if entry.idle and self._all.get(number) is entry:  # still
                entry.forget()
                del self._all[number]
            entry = self._all.get(number)
        known = entry is not None or not (self._files.may_be and is_id(number))
        if not known and await self._files.has(number, owner):
            read = await self._files.read(number, owner)
            entry = self._all.get(number)
            if entry is None and read.id == number:
                self._require_room()
                read.filed = True
                entry = self._all[number] = read
        if entry is None or entry.owner != owner:
            raise Refused(404, f"there is no conversation {number[:80]!r}")
        return entry

    @asynccontextmanager
    async def turn(self, number: str, owner: str) -> AsyncIterator[Turn]:
        """An answer in a conversation, the only one until the block ends.

        What is added to the turn is part of the conversation if the block ends well; otherwise its
        messages are as they were. Raises Refused: 404, or 409 while another answer is under way.
        """
        entry = await self.get(number, owner)
        self._require_idle(entry)
        turn = Turn([], None)
        turn.entry, entry.answering = entry, turn
        try:
            async with self._locked(entry):
                turn.conversation = await self._in_memory(entry)
                turn.messages += [said.message for said in entry.said]
                entry.filed = False
                yield turn
                if turn.added:
                    await self._ended(entry, turn)
        finally:
            if entry.answering is turn:
                entry.answering = None

    async def add(self, entry: Entry, said: Sequence[Said]) -> None:
        """Let it have been said. Raises Refused while an answer is under way."""
        async with self._alone(entry):
            _require_size([*entry.said, *said])
            await self._leave_file(entry)
            entry.said += said
            await self._store(entry)

    async def update(self, entry: Entry, metadata: dict[str, str], store: bool | None) -> None:
        """Change what is said about it."""
        if store:
            self._files.require()
        entry.metadata = metadata
        entry.store = self._shared or (entry.store if store is None else store)
        if entry.answering is None:  # what is under way saves it when it ends
            async with self._locked(entry):
                await self._leave_file(entry)
                await self._store(entry)

    async def fork(self, entry: Entry, turn: int | None) -> Entry:
        """Another one in which the same was said, or what had been after so many turns."""
        async with self._alone(entry):
            self._require_room()
            memory = await self._in_memory(entry)
            await self.measure(entry)
            fork = Entry(entry.owner, metadata=dict(entry.metadata), store=entry.store)
            fork.said, fork.marks, fork.tokens = [*entry.said], [*entry.marks], entry.tokens
            if turn is not None:
                fork.cut(turn)
            if memory is not None and await self._make_room():
                with suppress(CapacityError):  # it is computed for the fork's next turn
                    fork.memory = await _forked(memory, None if turn is None else fork.marks[-1])
            self._all[fork.id] = fork
            await self.measure(fork)
            await self._store(fork)
            return fork

    @staticmethod
    def turn_at(entry: Entry, position: int) -> int:
        """The number of the turn that ended when so many tokens were held. Raises CannotRewind."""
        for turn, mark in enumerate(entry.marks):
            if mark.tokens == position:
                return turn
        error = CannotRewind(
            f"no turn ended at position {position}", seq=-1, position=position, nearest=position
        )
        raise _nearest_turn(error, entry.marks)

    async def rewind(self, entry: Entry, turn: int, *, exactly: bool) -> None:
        """Forget what was said after so many turns.

        ``exactly``: memory has to come back there without computing anything. Raises CannotRewind,
        of which ``nearest`` is where a turn ended; then nothing has changed.
        """
        async with self._alone(entry):
            memory = await self._in_memory(entry)
            await self.measure(entry)
            mark = entry.marks[turn]
            if exactly and (memory is None or mark.tokens is None):
                raise Refused(
                    409, "memory holds other tokens there: rewind the conversation by turns"
                )
            if memory is not None and mark.tokens is not None:
                try:
                    await _rewind(memory, mark.tokens, exactly=exactly)
                except CannotRewind as error:
                    raise _nearest_turn(error, entry.marks) from None
            entry.cut(turn)
            await self.measure(entry)
            await self._store(entry)

    async def save(self, entry: Entry, name: str) -> int:
        """Write it to the state directory; how many bytes. Raises Refused."""
        self._files.require()
        async with self._alone(entry):
            if not (entry.filed and name == entry.id):
                await self._in_memory(entry)
                await self._files.write(entry, name)
            return await self._files.size(entry, name)

    async def restore(self, name: str, owner: str) -> Entry:
        """One that was saved: under its own id, if that is free. Raises Refused."""
        read = await self._files.read(name, owner)
        taken = read.id in self._all
        if not taken and read.id != name:
            taken = await self._files.has(read.id, owner)
        if taken:
            read.id, read.version = new_id(), None
        self._require_room()
        self._all[read.id] = read
        try:
            async with read.lock:
                await self._load(read, name)
        except BaseException:
            del self._all[read.id]
            raise
        read.filed = read.id == name
        return read

    async def saved(self, owner: str) -> list[dict[str, Any]]:
        """What an owner has saved; see ``Files.all_of``."""
        return await self._files.all_of(owner)

    async def delete_saved(self, name: str, owner: str) -> None:
        """Delete a file. Raises Refused where there is none."""
        await self._files.remove(name, owner)
        if name in self._all and self._all[name].owner == owner:
            self._all[name].filed, self._all[name].version = False, None

    async def delete(self, entry: Entry) -> None:
        """Let it go, and its own file. Raises Refused while an answer is under way."""
        async with self._alone(entry):
            entry.forget()
            self._all.pop(entry.id, None)
            await asyncio.to_thread(self._files.unlink, entry)

    async def save_all(self) -> None:
        """Save all that are open, where there is a state directory: the server stops.

        Of those in which an answer is still under way, which is not waited for, what was said
        before it.
        """
        for entry in list(self._all.values()) if self._files.may_be else ():
            answering = entry.answering is not None
            async with nullcontext() if answering else entry.lock:
                try:
                    if not entry.filed:
                        await self._files.write(entry, entry.id, notes_only=answering)
                except (MotetError, Refused) as error:
                    _log.warning("conversation %s is not saved: %s", entry.id, error)

    @property
    def _llm(self) -> AsyncLLM:
        """Also when the server stops, and conversations are saved."""
        self._model = self._model or self._service.text.llm
        return self._model

    def _require_room(self) -> None:
        most = self._service.settings.conversations
        if len(self._all) >= most:
            raise Refused(
                429,
                f"{most} conversations are open, the most there may be: delete some",
                code="too_many_conversations",
            )

    def _require_idle(self, entry: Entry) -> None:
        if entry.answering is not None:
            raise Refused(
                409,
                "an answer is under way in the conversation: wait until it has ended, or ask in a"
                " fork of it",
                code="conversation_busy",
            )

    @asynccontextmanager
    async def _alone(self, entry: Entry) -> AsyncIterator[None]:
        """While nothing else is done with it. Raises Refused while an answer is under way."""
        self._require_idle(entry)
        async with self._locked(entry):
            yield

    @asynccontextmanager
    async def _locked(self, entry: Entry) -> AsyncIterator[None]:
        """Once nothing else is done with it. Raises Refused when it was deleted meanwhile."""
        async with entry.lock:
            if entry.id not in self._all:
                raise Refused(404, f"there is no conversation {entry.id!r}")
            try:
                yield
            finally:
                entry.used = time.monotonic()

    def _expire(self) -> None:
        """Let go of those that nobody has used for long; those that are stored stay on disk."""
        seconds = self._service.settings.conversation_seconds
        if seconds is None:
            return
        over = time.monotonic() - seconds
        for entry in [e for e in self._all.values() if e.idle and e.used < over]:
            del self._all[entry.id]
            entry.forget()
            if not entry.store:
                self._files.unlink(entry)

    async def _in_memory(self, entry: Entry) -> AsyncConversation | None:
        """Its memory, or new memory; None where there is no room. Hold its lock."""
        if entry.memory is None and entry.filed:
            await self._load(entry, entry.id)
        elif entry.memory is None and await self._make_room():
            with suppress(CapacityError):
                entry.memory = await self._llm.conversation()
        return entry.memory

    async def _leave_file(self, entry: Entry) -> None:
        """Its file will not be as it is: read its memory, if that is there alone."""
        if entry.filed:
            await self._in_memory(entry)
        entry.filed = False

    async def _load(self, entry: Entry, name: str) -> None:
        """Read its memory, if there is room. Raises Refused where the file is of no use."""
        if not await self._make_room():
            return
        try:
            entry.memory = await self._files.memory(name, entry.owner)
            # Its marks are about these.
            entry.tokens = np.asarray(await entry.memory.tokens(), np.int32)
        except CapacityError as error:
            _log.info("conversation %s is to be computed again: %s", entry.id, error)
        await self.measure(entry)

    async def _make_room(self) -> bool:
        """Whether one more may be in memory; the least recently used one gives way to it."""
        most = self._llm.max_sequences // 2
        while most and len(held := self._held()) >= most:
            if not await self._park(held):
                return False
        return most > 0

    def _held(self) -> list[Entry]:
        """Those in memory, the least recently used first."""
        held = [entry for entry in self._all.values() if entry.memory is not None]
        return sorted(held, key=lambda entry: entry.used)

    async def _park(self, held: Sequence[Entry]) -> bool:
        """Take the first of these that is idle from memory; whether there was one."""
        entry = next((entry for entry in held if entry.idle), None)
        if entry is None:
            return False
        async with entry.lock:
            try:
                if self._files.may_be and not entry.filed:
                    await self._files.write(entry, entry.id)
            except (MotetError, Refused) as error:
                _log.warning("conversation %s is to be computed again: %s", entry.id, error)
            entry.forget()
        return True

    async def _ended(self, entry: Entry, turn: Turn) -> None:
        """A turn has ended well."""
        entry.said += [Said(dict(message)) for message in turn.added]
        state = await self.measure(entry)
        entry.marks.append(Mark(len(entry.said), None if state is None else state.length))
        await self._store(entry)
        most = self._llm.load().kv_bytes // 2
        while sum(each.bytes for each in self._held()) > most:
            if not await self._park([each for each in self._held() if each is not entry]):
                break

    async def measure(self, entry: Entry) -> ConversationState | None:
        """Note what it holds in memory; None where it is not there."""
        if entry.memory is None:
            return None
        state, tokens = await entry.memory.state(), await entry.memory.tokens()
        if not state.busy:
            entry.hold(np.asarray(tokens, np.int32), state.bytes)
        return state

    async def _store(self, entry: Entry) -> None:
        if entry.store:
            await self._files.write(entry, entry.id)


def _require_size(said: Sequence[Said]) -> None:
    """Raise Refused for more than a conversation may say."""
    size = sum(len(dumped(each.message)) for each in said)
    if size > MOST_BYTES:
        raise Refused(413, f"the conversation would have {size} bytes; at most {MOST_BYTES}")


async def _forked(memory: AsyncConversation, mark: Mark | None) -> AsyncConversation:
    """A fork of all, or of what was held at a mark, or as much of that as memory can."""
    if mark is None or mark.tokens is None:
        return await memory.fork()
    try:
        return await memory.fork(mark.tokens)
    except CannotRewind as error:
        return await memory.fork(error.nearest)


async def _rewind(memory: AsyncConversation, tokens: int, *, exactly: bool) -> None:
    """Go back to where so many were held; unless ``exactly``, or to the nearest place before."""
    try:
        await memory.rewind(tokens)
    except CannotRewind as error:
        if exactly:
            raise
        await memory.rewind(error.nearest)


def _nearest_turn(error: CannotRewind, marks: Sequence[Mark]) -> CannotRewind:
    """The error with the nearest place where a turn ended."""
    ends = [m.tokens for m in marks if m.tokens is not None and m.tokens <= error.nearest]
    nearest = max(ends, default=0)
    return CannotRewind(
        error.message,
        seq=error.seq,
        position=error.position,
        nearest=nearest,
        hint=f"position {nearest} is the nearest one; by turns, what is missing is computed again",
    )
