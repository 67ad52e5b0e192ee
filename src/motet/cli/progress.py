"""Progress on standard error: of one slow step, shown after a delay, and of many counted ones."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import click

from motet.machine import format_bytes

DELAY = 1.0
"""Seconds before the progress of a single step is shown."""
_INTERVAL = 0.2
_WIDTH = 20
_CLEAR = "\r\x1b[K"


@contextmanager
def counted_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """``delayed_progress`` of a share; the result is called with what is done, and with all."""
    done = [0, 1]

    def count(so_far: int, total: int) -> None:
        done[:] = so_far, max(total, 1)

    with delayed_progress(what, lambda: done[0] / done[1]):
        yield count


@contextmanager
def delayed_progress(
    what: str, fraction: Callable[[], float] | None = None
) -> Iterator[Callable[[], None]]:
    """Show ``what`` on a terminal, with a percentage, until the block ends or the result is called.

    ``fraction``: how much is done, 0 to 1, asked from another thread; None if it is not known.
    Nothing is shown of a step that takes less than ``DELAY``.
    """
    done = threading.Event()

    def show() -> None:
        shown = not done.wait(DELAY)
        while not done.is_set():
            share = "…" if fraction is None else f" {100 * fraction():3.0f} %"
            _write(f"\r{what}{share}")
            done.wait(_INTERVAL)
        if shown:
            _write(_CLEAR)

    def stop() -> None:
        done.set()
        if ticker.is_alive():
            ticker.join()

    ticker = threading.Thread(target=show, daemon=True)
    if _can_rewrite_lines():
        ticker.start()
    try:
        yield stop
    finally:
        stop()


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """Gives what shows (done, total, text): a bar on a terminal, a line each elsewhere.

    The bar is removed at the end, after an error too.
    """
    bars = _can_rewrite_lines()

    def show(done: int, total: int, text: str) -> None:
        if bars:
            bar = "━" * (_WIDTH * done // total)
            click.echo(f"{_CLEAR}{bar:{_WIDTH}} {done} of {total}: {text}", nl=False, err=True)
        else:
            click.echo(f"{done} of {total}: {text}", err=True)

    try:
        yield show
    finally:
        if bars:
            _write(_CLEAR)


@contextmanager
def transfer_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives what shows (bytes done, bytes in all) of fetching ``what``, if that takes a while.

    On a terminal a bar with the speed and the time left, which is removed at the end; elsewhere one
    line that says how much it is.
    """
    begun, bars = time.monotonic(), _can_rewrite_lines()
    with ExitStack() as stack:
        advance: Callable[[int, int], None] | None = None

        def show(done: int, total: int) -> None:
            nonlocal advance
            if advance is None and done < total and time.monotonic() - begun > DELAY:
                click.echo(f"fetching {what}: {format_bytes(total)}", err=True)
                advance = _transfer_bar(stack, done) if bars else _no_bar
            if advance is not None:
                advance(done, total)

        yield show


def _transfer_bar(stack: ExitStack, done: int) -> Callable[[int, int], None]:
    """What advances a bar that begins at ``done`` bytes and goes when ``stack`` is closed."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = BarColumn(None), DownloadColumn(), TransferSpeedColumn(), Remaining()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    stack.enter_context(bar)
    task = bar.add_task("", total=None, completed=done)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _no_bar(done: int, total: int) -> None:
    """Where none can be drawn."""


def _can_rewrite_lines() -> bool:
    """Whether standard error is a terminal that knows escape sequences."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _write(text: str) -> None:
    """What does not matter if it is lost: the terminal may be gone."""
    with suppress(OSError):
        print(text, end="", file=sys.stderr, flush=True)
