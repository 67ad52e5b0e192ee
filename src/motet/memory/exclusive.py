"""Who may change a memory: one at a time."""

from types import TracebackType

from motet.errors import MotetError


class ExclusiveUse:
    """A lock that does not wait, and that Ctrl-C at any moment does not leave locked."""

    def __init__(self) -> None:
        self._holder: dict[str, object] = {}

    def __enter__(self) -> None:
        mine = object()
        try:  # one step for every thread: who sets the key holds the lock
            if self._holder.setdefault("holder", mine) is not mine:
                raise MotetError(
                    "this context is at work in another thread",
                    hint="use a context from one thread at a time, or let motet.LLM share one",
                )
        except BaseException:
            if self._holder.get("holder") is mine:
                self._holder.clear()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._holder.clear()
