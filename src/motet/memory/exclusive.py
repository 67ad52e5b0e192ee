"""Who may change a memory: one at a time."""

import threading
from collections.abc import Callable
from typing import Any

from motet.errors import MotetError


class ExclusiveUse:
    """A lock that does not wait, and that Ctrl-C at any moment does not leave locked."""

    def __init__(self) -> None:
        self._lock: Any = threading.RLock()

    def __enter__(self) -> None:
        outer = self._lock._is_owned()
        try:
            if outer or not self._lock.acquire(blocking=False):
                raise MotetError(
                    "this context is at work in another thread",
                    hint="use a context from one thread at a time, or let motet.LLM share one",
                )
        except BaseException:
            if not outer and self._lock._is_owned():
                self._lock.release()
            raise

    @property
    def __exit__(self) -> Callable[..., None]:
        # The lock's own, which is no Python: Ctrl-C can't come before its first line.
        return self._lock.__exit__
