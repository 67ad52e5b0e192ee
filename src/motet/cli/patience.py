"""A line on standard error that says how far something slow has come, if it takes long enough."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 1.0
"""Seconds before anything is said."""
_INTERVAL = 0.2


@contextmanager
def waiting(what: str, fraction: Callable[[], float] | None = None) -> Iterator[Callable[[], None]]:
    """Show ``what`` on a terminal, with a percentage, until the block ends or the result is called.

    ``fraction``: how much is done, 0 to 1, asked from another thread; None where nobody knows.
    """
    done = threading.Event()

    def show() -> None:
        shown = not done.wait(PATIENCE)
        while not done.is_set():
            share = "…" if fraction is None else f" {100 * fraction():3.0f} %"
            print(f"\r{what}{share}", end="", file=sys.stderr, flush=True)
            done.wait(_INTERVAL)
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def stop() -> None:
        done.set()
        if ticker.is_alive():
            ticker.join()

    ticker = threading.Thread(target=show, daemon=True)
    if sys.stderr.isatty():
        ticker.start()
    try:
        yield stop
    finally:
        stop()
