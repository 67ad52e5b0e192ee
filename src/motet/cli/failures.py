"""How a command ends: errors as one line on standard error, and a status for each kind.

What is printed where it cannot go (a full disk, a closed stream) is such an error; a reader that
has left is a quiet end.
"""

import errno
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress

import click

from motet.cli.output import printable
from motet.errors import MotetError, OptionError

_ELSEWHERE = {
    "--top-n": "--top",
    "--output": "--npy",
    "-o": "--npy",
    "--max-length": "--truncate",
    "--documents": "--file",
    "--served-model-name": "--alias",
    "--max-model-len": "--ctx",
    "--max-num-seqs": "--max-sequences",
    "--chat-template": "--chat-template-file",
    "--slot-save-path": "--state-dir",
    "--draft-model": "--speculate",
    "--speculative-model": "--speculate",
    "--speculative-config": "--speculate",
}
"""What other programs call an option."""

_ARGUMENTS = (
    (r"\btruncate=True\b", "--truncate"),
    (r"\boverwrite=True\b", "--force"),
    (r"\ballow_requantize=True\b", "--allow-requantize"),
    (r"^tensor_types:", "--tensor-type:"),
    (r"^(output|embedding)_type:", r"--\1-type:"),
    (r"^split_size is", "--split-size is"),
    (r"\bpooling='(mean|cls|last)'", r"--pooling \1"),
    (r"(?<= )kv_(bytes|type)(?=[ ,)]|$)", r"--kv-\1"),
)
"""What Python calls an option, in messages, and its name here."""

FAILURE, BAD_USE, INTERRUPTED = 1, 2, 130


def report_failures(command: Callable[[], int | None]) -> int:
    """Run ``command``, which returns a status or None; the status to end with.

    Errors that are none of a user's business pass through.
    """
    _open_closed_streams()
    _encode_everything()
    try:
        return command() or 0
    except click.Abort:
        return INTERRUPTED
    except (MotetError, click.ClickException, OSError) as error:
        return _report(error)


def _report(error: Exception) -> int:
    """Say it in one line, if it can be said; the status."""
    if isinstance(error, OSError):
        _discard(sys.stdout)
        if error.errno == errno.EPIPE:
            _discard(sys.stderr)
            return FAILURE
    try:
        click.echo(f"error: {printable(' '.join(_text(error).split()))}", err=True)
    except OSError:
        _discard(sys.stderr)
    return BAD_USE if isinstance(error, click.UsageError | OptionError) else FAILURE


def _text(error: Exception) -> str:
    match error:
        case OSError(errno=errno.EBADF, filename=None):
            return "standard output is closed"
        case OSError(filename=None):
            return f"standard output: {error.strerror or error}"
        case OSError():
            return f"{error.filename}: {error.strerror}"
        case click.UsageError():
            return _bad_use(error)
        case click.ClickException():
            return error.format_message()
    text = str(error)
    for argument, option in _ARGUMENTS:
        text = re.sub(argument, option, text)
    return text


def _bad_use(error: click.UsageError) -> str:
    """With the command whose help has more."""
    path = error.ctx.command_path if error.ctx else "motet"
    if isinstance(error, click.BadParameter) and isinstance(error.param, click.Option):
        long = [name for name in error.param.opts if name.startswith("--")]
        error.param_hint = f"'{long[0]}'"  # not all of its names
    text = error.format_message()
    if isinstance(error, click.NoSuchOption):
        text = f"{path} has no option {error.option_name}"
        if near := _meant(error) or error.possibilities:
            text += f"; did you mean {' or '.join(near)}?"
    elif "unexpected extra argument" in text and error.ctx:
        text = f"{text.removesuffix('.')}{_instead(error.ctx.command)}"
    return f"{text.removesuffix('.')} ({path} --help)"


def _meant(error: click.NoSuchOption) -> list[str]:
    """The option of the command that has another name elsewhere."""
    here = _ELSEWHERE.get(error.option_name)
    params = error.ctx.command.params if error.ctx else []
    return [here] if here and any(here in param.opts for param in params) else []


def _instead(command: click.Command) -> str:
    """How to give a command what it takes for one argument too many."""
    if any(param.name == "text" for param in command.params):
        return ": a text of several words goes in quotes"
    if any("--out" in param.opts for param in command.params):
        return ": -o names the file to write"
    return ": -f names a file" if any("--file" in param.opts for param in command.params) else ""


def _open_closed_streams() -> None:
    """Give standard streams that were closed from the start a file descriptor again.

    Else the next file that is opened would get theirs. Reading and printing results fail there
    still; notes on standard error are not missed.
    """
    for number, name, opened, mode in (
        (0, "stdin", os.O_WRONLY, "r"),
        (1, "stdout", os.O_RDONLY, "w"),
        (2, "stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, opened)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _encode_everything() -> None:
    """Print escapes for characters that the terminal's encoding does not have."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard(stream: object) -> None:
    """Send what a stream still holds nowhere, so that ending does not fail once more."""
    with suppress(OSError, ValueError, AttributeError), open(os.devnull, "wb") as null:  # noqa: PTH123
        os.dup2(null.fileno(), stream.fileno())  # type: ignore[attr-defined]
