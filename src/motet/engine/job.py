"""Something that the engine thread does for a caller between two steps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from motet.engine.request import as_motet_error
from motet.errors import MotetError


@dataclass
class Job:
    """Work, and what came of it."""

    work: Callable[[], Any]
    outcome: "SimpleQueue[tuple[Any, MotetError | None]]" = field(
        default_factory=SimpleQueue[tuple[Any, MotetError | None]]
    )
    """What came of it: a queue, since Ctrl-C in whoever waits can't leave it locked."""
    abandoned: bool = False
    """Nobody waits for it any more; if it has not begun, it is not done."""

    def do(self) -> None:
        if self.abandoned:
            return
        try:
            self.outcome.put((self.work(), None))
        except Exception as error:
            self.refuse(as_motet_error(error))

    def refuse(self, error: MotetError) -> None:
        self.outcome.put((None, error))
