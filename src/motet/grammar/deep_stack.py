"""A function called where there is room for deep recursion."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from motet.errors import CapacityError

Result = TypeVar("Result")

_BYTES = 256 << 20
"""Of addresses; memory is taken only where the stack grows."""
_setting = threading.Lock()
"""``threading.stack_size`` is of the process."""


def on_deep_stack(work: Callable[[], Result]) -> Result:
    """What ``work`` returns or raises, called in a thread with a stack of 256 MB.

    llguidance follows a grammar's references by recursion, some 16 kB each, and running out of
    stack would end the process. Raises CapacityError where there is no such thread.
    """
    outcome: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:
            outcome.put((None, error))

    thread = threading.Thread(target=run, name="motet-grammar", daemon=True)
    with _setting:
        usual = threading.stack_size(_BYTES)
        try:
            thread.start()
        except RuntimeError as error:
            raise CapacityError("there is no memory to compile a grammar in") from error
        finally:
            threading.stack_size(usual)
    result, error = outcome.get()
    if error is not None:
        raise error
    return result  # pyright: ignore[reportReturnType]
