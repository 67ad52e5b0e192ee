"""Text files that a command is given."""

from pathlib import Path

import click


def read_text(path: str) -> str:
    """The file's text; bad use if it can't be read or is not UTF-8."""
    try:
        return Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise click.UsageError(f"the text file {path!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path!r} is not UTF-8 at byte {error.start}") from error
