"""Chat templates are programs from strangers' files: they run in a process that limits hold.

To guard Jinja's operations one by one would never end, so many take time or memory without bound.
The kernel guards them all.
"""

import json
import os
import signal
import threading
import time
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motet.errors import TokenizerError
from motet.tokenizer import sandbox_process
from motet.tokenizer.sandbox_process import ANSWER, MEMORY, REQUEST, TEXT

if TYPE_CHECKING:
    from socket import socket
    from subprocess import Popen

SECONDS, SECONDS_A_BYTE = 2.0, 1e-6
"""Of processor time for one rendering, and more for each byte of the messages as JSON."""
MEMORY_BYTES, MEMORY_A_BYTE = 128 << 20, 32
"""Likewise of memory, beyond the 20 MB that the process takes by itself."""
TEXT_BYTES, TEXT_A_BYTE = 1 << 20, 64
"""Likewise of the text that is made."""
WAIT = 60.0
"""Seconds by the clock for a busy machine, beside ten times those of processor time."""


@dataclass(frozen=True)
class Limits:
    """Of one rendering."""

    seconds: float
    memory: int
    text: int

    @staticmethod
    def of(size: int) -> "Limits":
        """For ``size`` bytes of messages and of what else a template is given."""
        return Limits(
            SECONDS + SECONDS_A_BYTE * size,
            MEMORY_BYTES + MEMORY_A_BYTE * size,
            TEXT_BYTES + TEXT_A_BYTE * size,
        )


class TemplateSandbox:
    """Renders chat templates in one process: begun when first needed, kept, replaced when it ends.

    Safe to share between threads, which take turns. A fork begins a process of its own.
    """

    def __init__(self) -> None:
        self._worker = _Worker()

    def render(self, template: str, /, messages: Any, **others: Any) -> str:
        """``template``, a Jinja source, rendered with ``messages`` and ``others``, by name.

        ``messages``: whatever JSON can say; the longer they are the more a rendering may take.

        Raises TokenizerError for messages that are not, for a template that is malformed, refuses
        them, fails, takes too much time or memory or makes too much text, and where no process can
        be had.
        """
        try:
            given, names = json.dumps(messages), json.dumps(others)
        except (TypeError, ValueError, RecursionError) as error:
            raise TokenizerError(
                f"the messages hold what JSON cannot say: {error}",
                hint="give text, numbers, lists and dictionaries",
            ) from error
        if self._worker.owner != os.getpid():  # a fork: the lock may be held by no thread of ours
            self._worker = _Worker()
        request = f"[{json.dumps(template)}, {given}, {names}]".encode()
        return self._worker.render(request, Limits.of(len(given) + len(names)))


class _Worker:
    """What the threads of one process, ``owner``, share."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._idle: _Process | None = None

    def render(self, request: bytes, limits: Limits) -> str:
        with self._lock:
            process, self._idle = self._idle, None
            if process is not None:
                try:
                    return self._use(process, request, limits)
                except _Worn:  # not this template's doing: once more in a new one
                    pass
            return self._use(_Process(), request, limits)

    def _use(self, process: "_Process", request: bytes, limits: Limits) -> str:
        try:
            return process.render(request, limits)
        finally:
            if process.is_sound:
                self._idle = process
            else:
                process.end()


class _Worn(TokenizerError):
    """The process ended or is out of memory, which may be because of what came before."""


class _Process:
    """A process that renders. ``is_sound``: it has answered whatever it was asked."""

    def __init__(self) -> None:
        from socket import socketpair
        from subprocess import DEVNULL, Popen

        with ExitStack() as failed:
            try:
                self._socket, theirs = socketpair()
                failed.callback(self._socket.close)
                with theirs:
                    self._popen = Popen(
                        _command(),
                        stdin=theirs.fileno(),
                        stdout=theirs.fileno(),
                        stderr=DEVNULL,
                        cwd="/",
                        start_new_session=True,  # Ctrl-C is not meant for it
                    )
            except OSError as error:
                raise TokenizerError(
                    f"no process can be started to render the chat template: {error}",
                    hint="raise the limits of processes and open files, or give text, not messages",
                ) from error
            failed.pop_all()
        self.is_sound = True
        self.end = weakref.finalize(self, _end, os.getpid(), self._socket, self._popen)

    def render(self, request: bytes, limits: Limits) -> str:
        self.is_sound = False
        self._socket.settimeout(WAIT + 10 * limits.seconds)
        began = time.monotonic()
        try:
            kind, text = self._exchange(request, limits)
        except TimeoutError as error:
            raise _failure("is not rendered: the process that does it stands still") from error
        except ConnectionError as error:
            code = self._exit_code()
            late = time.monotonic() - began >= limits.seconds
            if code == -signal.SIGPROF or (code == 0 and late):  # 0: others have waited for it
                took = f"takes more than {limits.seconds:.3g} seconds of processor time"
                raise _failure(took) from error
            raise _Worn(
                f"the process that renders chat templates ended with code {code}",
                hint="it needs 30 MB of memory and a Python to run, see multiprocessing."
                "set_executable; or give text, not messages",
            ) from error
        if kind == MEMORY:
            raise _Worn(f"the chat template takes more than {limits.memory >> 20} MB of memory")
        self.is_sound = True
        if kind != TEXT:
            raise _failure(text)
        return text

    def _exchange(self, request: bytes, limits: Limits) -> tuple[bytes, str]:
        from socket import MSG_NOSIGNAL

        header = REQUEST.pack(len(request), limits.seconds, limits.memory)
        self._socket.sendall(header, MSG_NOSIGNAL)
        self._socket.sendall(request, MSG_NOSIGNAL)
        kind, size = ANSWER.unpack(self._receive(ANSWER.size))
        if size > limits.text:
            raise _failure(f"makes more than {limits.text >> 20} MB of text")
        return kind, self._receive(size).decode("utf-8", "surrogatepass")

    def _receive(self, size: int) -> bytearray:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise ConnectionResetError
            data += part
        return data

    def _exit_code(self) -> int:
        from subprocess import TimeoutExpired

        try:
            return self._popen.wait(10)
        except TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()


def _end(owner: int, socket: "socket", popen: "Popen") -> None:
    if owner == os.getpid():
        popen.kill()
        popen.wait()
    else:  # a fork, to which it was never a child
        popen.returncode = 0
    socket.close()


def _command() -> list[str | bytes]:
    from multiprocessing.spawn import get_executable

    libraries = {str(Path(_origin(name)).parents[1]) for name in ("jinja2", "markupsafe")}
    return [get_executable(), "-I", "-S", sandbox_process.__file__, *libraries]


def _origin(name: str) -> str:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    return spec.origin


def _failure(what: str) -> TokenizerError:
    return TokenizerError(f"the chat template {what}")
