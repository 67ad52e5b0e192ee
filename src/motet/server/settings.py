"""How a server is set up, beside its models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ServerSettings:
    """See ``motet serve --help``."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0: any that is free."""
    api_keys: tuple[str, ...] = ()
    """Any of them opens the server; none: it is open."""
    origins: tuple[str, ...] = ()
    """Web pages of these origins may ask, as in https://chat.example; "*": all."""
    hosts: tuple[str, ...] = ()
    """Names under which the server may be asked for, beside its addresses; "*": any."""
    aliases: tuple[str, ...] = ()
    """What clients see the model called, and further names of it; none: the name of its file."""
    tags: tuple[str, ...] = ()
    """What the list of models says of it; they change nothing."""
    state_dir: Path | None = None
    """Where conversations and slots are saved; None: they can't be."""
    shared_state: bool = False
    """Whether other servers of the same model use the directory too: each conversation is written
    there after every turn, and read anew once another server wrote it."""
    conversations: int = 1000
    """That may be open at once."""
    conversation_seconds: float | None = None
    """After which one that nobody uses is deleted, or if it is stored, left on disk alone."""
    body_bytes: int = 32 << 20
    """Of a request, at most."""
    max_tokens: int | None = None
    """Of an answer, where a request does not say how many; None: what there is room for."""
    template_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What chat templates are told, unless a request says something else."""
    timeout: float | None = 600.0
    """Seconds that a request may take, waiting included."""
    shutdown_seconds: float = 30.0
    """That answers under way get to end when the server is told to stop."""
    page: bool = True
    """Whether there is a page to chat at."""
    slots: bool = True
    """Whether clients may see at /slots what each sequence does."""
    metrics: bool = True
    """Whether /metrics says anything."""
    verbose: bool = False
    """Whether chats say what the model read, unless a request says something else."""
    access_log: bool = False
    """A line on standard error for each request."""

    @property
    def loopback(self) -> bool:
        """Whether this machine alone can reach the server."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")
