"""What a command is given to read: model files, text files, standard input."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from motet.cli.progress import delayed_progress
from motet.errors import UnsupportedError

if TYPE_CHECKING:
    from motet.model import Model


def load_model(path: str, threads: int | None) -> "Model":
    """``Model.load`` with progress on standard error; raises what that does."""
    from motet.model import Model

    done = [0, 1]

    def progress(so_far: int, total: int) -> None:
        done[:] = so_far, max(total, 1)

    with delayed_progress("loading", lambda: done[0] / done[1]):
        return Model.load(path, threads, progress=progress)


def load_text_model(path: str, threads: int | None) -> "Model":
    """As ``load_model``; raises UnsupportedError for a model without a tokenizer."""
    model = load_model(path, threads)
    if model.tokenizer is None:
        raise UnsupportedError(f"{path} has no vocabulary, so it cannot tokenize a text")
    return model


def read_text(path: str) -> str:
    """The text of a file. Raises UsageError if it cannot be read or is not UTF-8."""
    try:
        return Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise click.UsageError(f"the text file {path!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path!r} is not UTF-8 at byte {error.start}") from error


def read_prompt(path: str | None) -> str:
    """The prompt in a file, or on standard input (None or "-"), less one final newline.

    Raises UsageError if it cannot be read or is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if path is None or path == "-" else Path(path).read_bytes()
        return data.decode("utf-8").removesuffix("\n")  # the one that echo and editors add
    except OSError as error:
        raise click.UsageError(f"the prompt file {path!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the prompt is not UTF-8 at byte {error.start}") from error
