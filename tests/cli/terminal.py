"""A process on a terminal of its own, and what is typed there."""

import os
import pty
import re
import select
import signal
import sys
import time
from contextlib import suppress


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process, self._terminal = pty.fork()
        if self.process == 0:
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)  # nohup, for one, has them ignored
            path = os.pathsep.join(filter(None, sys.path))
            os.execve(
                sys.executable,
                [sys.executable, *arguments],
                {**os.environ, "PYTHONPATH": path, "TERM": "xterm", **environment},
            )
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, pattern: str, start: int = 0) -> int:
        """Where a match of ``pattern`` ends in what was shown; fails after half a minute."""
        deadline = time.monotonic() + 30
        while not (match := re.compile(pattern, re.DOTALL).search(self.shown, start)):
            ready, _, _ = select.select([self._terminal], [], [], deadline - time.monotonic())
            assert ready, f"no {pattern!r} in {self.shown!r}"
            try:
                self.shown += os.read(self._terminal, 4096).decode(errors="replace")
            except OSError:
                raise AssertionError(f"ended without {pattern!r}: {self.shown!r}") from None
        return match.end()

    def hang_up(self) -> None:
        """The terminal goes away, as when its window is closed."""
        os.close(self._terminal)

    def status(self) -> int:
        """Read to the end, for half a minute at most; the exit status, negative for a signal."""
        deadline = time.monotonic() + 30
        with suppress(OSError):
            while select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))[0]:
                more = os.read(self._terminal, 4096)
                if not more:
                    break
                self.shown += more.decode(errors="replace")
            else:
                os.kill(self.process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


READS, TAKES = r"\?2004h", r"\?2004l"
"""The prompt asks for bracketed paste while it reads a line, and no longer once it has one."""
