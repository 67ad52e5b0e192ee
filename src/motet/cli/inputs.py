"""What a command is given to read: model files, text files, standard input."""

import fcntl
import os
import re
import stat
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from motet.cli.loading import Loading
from motet.cli.output import printable
from motet.cli.progress import counted_progress, transfer_progress
from motet.errors import ModelFileError, MotetError, UnsupportedError
from motet.hub import is_address, local_path

if TYPE_CHECKING:
    from motet.model import Model

PATIENCE = 2.0
"""Seconds after which it is said that standard input is waited for."""
_BOM = "\ufeff"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def existing_model(path: str) -> str:
    """``path``, or where the cache has what an ``hf://`` address names, once it is fetched.

    Raises ModelFileError where nothing is there, with what may have been meant, and for an address
    what ``local_path`` raises.
    """
    if is_address(path):
        return fetched(path)
    if os.path.exists(path):  # noqa: PTH110 — which a name that cannot be is no error for
        return path
    if "://" in path:
        raise ModelFileError(
            f"{path} is an address, not a file",
            hint="fetch it first, for example by curl -LO; hf://org/name is fetched",
        )
    from difflib import get_close_matches

    folder = Path(path).parent
    names = [file.name for file in folder.glob("*.gguf")] if os.path.isdir(folder) else []  # noqa: PTH112
    near = [str(folder / name) for name in get_close_matches(Path(path).name, names, 2, 0.7)]
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "MODEL is the path of a GGUF file or a Hugging Face directory, or hf://org/name"
    )
    raise ModelFileError(f"{path}: there is no such file", hint=hint)


def fetched(
    address: str, revision: str | None = None, token: str | None = None, offline: bool = False
) -> str:
    """``local_path`` with progress on standard error; raises what that does."""
    with transfer_progress(address) as show:
        return local_path(address, progress=show, revision=revision, token=token, offline=offline)


def load_model(path: str, loading: Loading) -> "Model":
    """``Model.load`` with progress on standard error; raises what that does."""
    from motet.model import Model

    path = existing_model(path)
    with counted_progress("loading") as progress:
        return Model.load(
            path,
            loading.threads,
            type=loading.type,
            lora=loading.lora,
            progress=progress,
            packed_cache=loading.packed_cache,
            packed_cache_bytes=loading.packed_cache_bytes,
        )


def load_text_model(path: str, loading: Loading) -> "Model":
    """As ``load_model``; raises UnsupportedError for a model without a tokenizer."""
    model = load_model(path, loading)
    if model.tokenizer is None:
        raise UnsupportedError(
            f"{path} has no vocabulary, so it cannot tokenize a text", hint=_hint(model)
        )
    return model


def _hint(model: "Model") -> str:
    directory = os.path.isdir(model.file.path)  # noqa: PTH112
    return "put tokenizer.json or tokenizer.model beside config.json" if directory else ""


def predicting(model: "Model") -> "Model":
    """``model``. Raises UnsupportedError for one that predicts nothing."""
    from motet.runnable import Decodes

    if isinstance(model.family, Decodes):
        return model
    raise UnsupportedError(
        f"{model.name} is an encoder: it does not predict what comes next",
        hint="motet embed gives the vectors that it is for",
    )


def model_name(model: "Model") -> str:
    """What its file calls it, else the file's own name."""
    name = model.file.metadata.get("general.name")
    return printable(name) if isinstance(name, str) and name else Path(model.file.path).name


def read_text(path: str) -> str:
    """The text of a file. Raises UsageError if it cannot be read or is not UTF-8."""
    return decoded(_read_file(path), repr(path))


def read_prompt(text: str | None, path: str | None) -> str:
    """What is piped in, the file's text and ``text``, as far as given, with empty lines between.

    A final newline of what is piped in and of the file is left out, since echo and editors add it.
    ``path``: "-" for standard input. Raises UsageError if something cannot be read, is not UTF-8,
    or nothing is given.
    """
    parts: list[str] = []
    if path == "-" or (text is None and path is None) or _piped_in():
        parts.append(decoded(read_standard_input(), "standard input").removesuffix("\n"))
    if path is not None and path != "-":
        parts.append(read_text(path).removesuffix("\n"))
    if text is not None:
        parts.append(text)
    return "\n\n".join(filter(None, parts))


def read_texts(texts: tuple[str, ...], path: str | None, what: str) -> list[str]:
    """``texts``, or those of a file or of standard input, one a line.

    ``path``: "-" for standard input. ``what``: they are, for messages. Raises UsageError if both or
    none are given, or something cannot be read or is not UTF-8.
    """
    if texts and path is not None:
        raise click.UsageError(f"give {what} on the command line or in a file, not both")
    if texts:
        for text in texts:
            if os.path.isfile(text):  # noqa: PTH113 — which a name that cannot be is no error for
                click.echo(f"{text} is taken as a text; -f {text} reads the file", err=True)
        if _input_waits():
            click.echo(f"standard input is not read, since {what} are given", err=True)
        return list(texts)
    if path is None and not _piped_in():
        raise click.UsageError(f"give {what}, a file with -f, or one a line on standard input")
    if path is None or path == "-":
        text = decoded(read_standard_input(), "standard input")
    else:
        text = read_text(path)
    lines = text.removesuffix("\n").split("\n") if text else []
    if not lines:
        raise click.UsageError(f"there are no {what} to read: the input is empty")
    return [line.removesuffix("\r") for line in lines]


@contextmanager
def counted_from_one() -> Iterator[None]:
    """Have an error count texts or documents as people do, and not as Python does."""
    try:
        yield
    except MotetError as error:
        error.message = re.sub(
            r"^((?:the query and )?(?:text|document)) (\d+)",
            lambda found: f"{found[1]} {int(found[2]) + 1}",
            error.message,
        )
        raise


def read_standard_input() -> bytes:
    """All of it. Raises UsageError if it cannot be read."""
    try:
        with _said_to_wait():
            return sys.stdin.buffer.read()
    except OSError as error:
        raise click.UsageError(f"standard input: {error.strerror}") from error


def decoded(data: bytes, what: str) -> str:
    """UTF-8 text, without a byte order mark. Raises UsageError for anything else."""
    try:
        return data.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        hint = "; it may be UTF-16: iconv -f utf-16 -t utf-8" if data.startswith(_UTF16) else ""
        raise click.UsageError(f"{what} is not UTF-8 at byte {error.start}{hint}") from error


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise click.UsageError(f"{path!r}: {reason}") from error


def _piped_in() -> bool:
    """Whether standard input is a pipe or a file, not a terminal or nothing."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # an object without a descriptor holds what it holds
        return not sys.stdin.isatty()
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _input_waits() -> bool:
    """Whether standard input is a file or a pipe with something in it."""
    try:
        descriptor = sys.stdin.fileno()
        state = os.fstat(descriptor)
        if stat.S_ISREG(state.st_mode):
            return state.st_size > 0
        if not stat.S_ISFIFO(state.st_mode):
            return False
        waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    except (OSError, ValueError):
        return False
    return int.from_bytes(waiting, sys.byteorder) > 0


@contextmanager
def _said_to_wait() -> Iterator[None]:
    """Say what is waited for when nothing comes, as from a pipe that nobody closes."""

    def say() -> None:
        with suppress(OSError):
            click.echo("reading standard input; </dev/null gives it an end", err=True)

    timer = threading.Timer(PATIENCE, say)
    timer.daemon = True
    if not sys.stdin.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
