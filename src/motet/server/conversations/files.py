"""Conversations as files: each a state file of the state directory, in the folder of its owner."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from motet.async_llm import AsyncLLM
from motet.engine import AsyncConversation
from motet.errors import StateFileError
from motet.server.conversations.entry import Entry
from motet.server.failures import Refused
from motet.server.state_dir import Folder, folder_in

_log = logging.getLogger("motet")


class Files:
    """Those of all owners. Where there is no state directory, what needs one raises Refused."""

    def __init__(
        self, state_dir: Path | None, llm: Callable[[], AsyncLLM], *, shared: bool = False
    ) -> None:
        """``shared``: with other servers."""
        self._state_dir = state_dir
        self._llm = llm
        self._shared = shared

    @property
    def may_be(self) -> bool:
        """Whether there is a state directory."""
        return self._state_dir is not None

    def require(self) -> None:
        """Raise Refused where there is none."""
        self._folder("")

    async def has(self, name: str, owner: str) -> bool:
        """Whether there is such a file. Raises Refused for what is no name."""
        return await asyncio.to_thread(self._folder(owner).has, name)

    async def is_current(self, entry: Entry) -> bool:
        """Whether no other server wrote or deleted a conversation since it was read or written."""
        if not self._shared or entry.version is None:
            return True
        found = await asyncio.to_thread(self._folder(entry.owner).version, entry.id)
        return found == entry.version

    async def size(self, entry: Entry, name: str) -> int:
        """Bytes of a file."""
        return await asyncio.to_thread(self._folder(entry.owner).size, name)

    async def read(self, name: str, owner: str) -> Entry:
        """All but the memory of what was saved. Raises Refused."""
        return await asyncio.to_thread(self._read, self._folder(owner), name, owner)

    async def memory(self, name: str, owner: str) -> AsyncConversation:
        """The memory of what was saved. Raises Refused, and CapacityError where it does not fit."""
        return await asyncio.to_thread(self._memory, self._folder(owner), name)

    async def all_of(self, owner: str) -> list[dict[str, Any]]:
        """What an owner has saved. Of a file that is of no use here ``error`` says why."""
        return await asyncio.to_thread(self._list, self._folder(owner))

    async def write(self, entry: Entry, name: str, *, notes_only: bool = False) -> None:
        """Save a conversation, or all but its memory. Raises Refused, also where another server
        went on with it."""
        own = name == entry.id
        if own and not await self.is_current(entry):
            raise Refused(
                409,
                f"another server went on with conversation {entry.id} meanwhile: ask again",
                code="conversation_changed",
            )
        folder = self._folder(entry.owner)
        path = await asyncio.to_thread(folder.target, name)
        notes = entry.notes()
        try:
            if notes_only or entry.memory is None:
                await self._llm().save(path, notes, notes_only=True)
            else:
                await entry.memory.save(path, notes)
        except StateFileError as error:  # which names paths of the server
            _log.warning("%s", error)
            raise Refused(500, f"{name} can't be written; the server's log says why") from error
        entry.filed = entry.filed or own
        if own:
            entry.version = await asyncio.to_thread(folder.version, name)

    async def remove(self, name: str, owner: str) -> None:
        """Delete a file. Raises Refused where there is none."""
        await asyncio.to_thread(self._folder(owner).remove, name)

    def unlink(self, entry: Entry) -> None:
        """Delete a conversation's own file, if there is one."""
        if self.may_be:
            with suppress(Refused):  # there is none
                self._folder(entry.owner).remove(entry.id)

    def _folder(self, owner: str) -> Folder:
        return folder_in(self._state_dir, "conversations", owner)

    def _read(self, folder: Folder, name: str, owner: str) -> Entry:
        version = folder.version(name)  # before it is read: what is written meanwhile is another
        with folder.explained(name):
            entry = Entry.read(owner, self._llm().llm.notes(folder.source(name)))
        entry.version = version if entry.id == name else None
        return entry

    def _memory(self, folder: Folder, name: str) -> AsyncConversation:
        with folder.explained(name):
            return AsyncConversation(self._llm().llm.restore_conversation(folder.source(name))[0])

    def _list(self, folder: Folder) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for file in folder.files():
            facts: dict[str, Any] = {"name": file.name, "bytes": file.size}
            facts |= {"object": "conversation.saved", "saved_at": file.modified}
            try:
                entry = self._read(folder, file.name, "")
                turns = len(entry.marks) - 1
                facts |= {"id": entry.id, "metadata": entry.metadata, "turns": turns}
            except Refused as error:
                facts["error"] = error.message
            found.append(facts)
        return found
