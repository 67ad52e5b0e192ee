"""How far a measurement has come, on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_WIDTH = 20
_CLEAR = "\r\x1b[K"


@contextmanager
def progress() -> Iterator[Callable[[int, int, str], None]]:
    """Gives what shows (done, total, text): a bar on a terminal, a line each elsewhere.

    The bar is taken away at the end, however that comes.
    """
    terminal = sys.stderr.isatty()

    def show(done: int, total: int, text: str) -> None:
        if terminal:
            bar = "━" * (_WIDTH * done // total)
            click.echo(f"{_CLEAR}{bar:{_WIDTH}} {done} of {total}: {text}", nl=False, err=True)
        else:
            click.echo(f"{done} of {total}: {text}", err=True)

    try:
        yield show
    finally:
        if terminal:
            click.echo(_CLEAR, nl=False, err=True)
