"""Ctrl-C, or another error, at any place of Python where the system may come to it."""

import dis
import sys
from collections.abc import Callable
from functools import cache
from inspect import CO_GENERATOR
from types import CodeType

_NO_ERROR = ("LOAD_CONST", ("LOAD_CONST", "DUP_TOP"), ("LOAD_CONST", "DUP_TOP"))
"""What a ``with`` block passes to ``__exit__`` when it ends well."""


class Interrupter:
    """Raises ``error`` at the ``event``-th event of what it runs: a line, or a function's begin."""

    def __init__(
        self, event: int, error: type[BaseException] = KeyboardInterrupt, inside: str = ""
    ) -> None:
        """``inside``: count those in files whose path begins so."""
        self.seen = 0
        """Events, so far."""
        self.raised = False
        self._event, self._error, self._inside = event, error, inside

    def run(self, action: Callable[[], object]) -> None:
        """Run ``action``; ends with what it or the interrupter raises."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            action()
        finally:
            sys.settrace(before)

    def _trace(self, frame, kind: str, arg):
        if not frame.f_code.co_filename.startswith(self._inside):
            return None
        code = frame.f_code
        begins = kind == "call" and not code.co_flags & CO_GENERATOR  # or is thrown away
        if begins or (kind == "line" and not _leaves(code, frame.f_lasti)):
            self.seen += 1
            if self.seen == self._event:
                self.raised = True
                raise self._error
        return self._trace


def interrupted_at(event: int, action: Callable[[], object], inside: str = "") -> bool:
    """Run ``action`` with Ctrl-C at its ``event``-th event; False if it ended before."""
    interrupter = Interrupter(event, inside=inside)
    try:
        interrupter.run(action)
    except KeyboardInterrupt:
        return True
    return False


@cache
def _leaves(code: CodeType, offset: int) -> bool:
    """Whether a ``with`` block ends there: no signal is looked at before ``__exit__`` runs."""
    following = [i.opname for i in dis.get_instructions(code) if i.offset >= offset][:5]
    if "WITH_EXCEPT_START" in following[:3]:
        return True
    return any(
        first == _NO_ERROR[0] and second in _NO_ERROR[1] and third in _NO_ERROR[2]
        for first, second, third in zip(following, following[1:], following[2:], strict=False)
    )
