"""How far a measurement has come, on standard error."""

import sys

import click

_WIDTH = 20


def show_progress(done: int, total: int, text: str) -> None:
    """A bar and ``text``: one line that is replaced on a terminal, a line each elsewhere."""
    if sys.stderr.isatty():
        filled = _WIDTH * done // total
        bar = "━" * filled + " " * (_WIDTH - filled)
        click.echo(f"\r\x1b[K{bar} {done} of {total}: {text}", nl=False, err=True)
    else:
        click.echo(f"{done} of {total}: {text}", err=True)


def end_progress() -> None:
    """Take the line off the terminal."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
