"""`motet serve` as users start it, in a process of its own."""

import re
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from tests.server.models import TINY

COMMAND = [sys.executable, "-c", "from motet.cli import main; main()", "serve"]


class Server:
    """A server process, and where it is."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: list[str] = []
        self.url = ""

    def wait_until_ready(self) -> None:
        """Until it has said so, or ended."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"is ready at (http://\S+):", line):
                self.url = found[1]
                return

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30)

    def ended(self, seconds: float = 20) -> int:
        """The exit status, once there is one."""
        _, rest = self.process.communicate(timeout=seconds)
        self.said.append(rest)
        return self.process.returncode


@contextmanager
def started(*options: str, variables: Mapping[str, str]) -> Generator[Server]:
    """A server that is ready, in such an environment; killed at the end if it still runs."""
    process = subprocess.Popen(
        [*COMMAND, str(TINY), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(variables),
    )
    server = Server(process)
    try:
        server.wait_until_ready()
        yield server
    finally:
        process.kill()
        process.communicate()


def stream(url: str, max_tokens: int = 200, headers: Mapping[str, str] | None = None) -> Any:
    """A completion that is streamed, to be entered."""
    asked = {"prompt": "Once upon a time", "max_tokens": max_tokens, "stream": True}
    return httpx.stream("POST", f"{url}/v1/completions", json=asked, headers=headers, timeout=30)
