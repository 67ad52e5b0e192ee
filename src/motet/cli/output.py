"""Output of commands: answers as they are generated, statistics, numbers and safe strings."""

import resource
import sys
from typing import TYPE_CHECKING

import click

from motet.cli.progress import delayed_progress
from motet.machine import format_bytes

if TYPE_CHECKING:
    from motet.engine import Completion
    from motet.engine.stream import Stream


class Interrupted(Exception):
    """Ctrl-C, or a signal, ended an answer; ``text`` is what had been generated."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def print_stream(stream: "Stream") -> "Completion":
    """Print a single answer as it is generated: text alone, on standard output.

    On a terminal what the model thinks comes before it, dimmed; elsewhere it is left out.

    Raises Interrupted for Ctrl-C and SystemExit, from these, after cancelling it.
    """
    texts: list[str] = []
    terminal = sys.stdout.isatty()
    thinking = False
    try:
        with (
            stream,
            delayed_progress("prefill", lambda: stream.prompt_progress) as prefilled,
        ):
            for chunk in stream:
                prefilled()
                texts.append(chunk.text)
                if terminal and chunk.reasoning:
                    thinking = True
                    click.secho(without_control_characters(chunk.reasoning), dim=True, nl=False)
                if thinking and chunk.text:
                    thinking = False
                    click.echo("\n")
                click.echo(
                    without_control_characters(chunk.text) if terminal else chunk.text, nl=False
                )
                if chunk.completion:
                    return chunk.completion
    except (KeyboardInterrupt, SystemExit) as ending:
        raise Interrupted("".join(texts)) from ending
    raise AssertionError("a stream ends with a completion")


def statistics(completion: "Completion", context: int) -> str:
    """One line: speed, tokens proposed, time to the first token, memory, whether the context is
    full."""
    usage, timings = completion.usage, completion.timings
    reused = f"{usage.cached_tokens} reused, " if usage.cached_tokens else ""
    proposed = ""
    if usage.proposed_tokens:
        proposed = f", {usage.accepted_tokens} of {usage.proposed_tokens} proposed accepted"
    parts = [
        f"prompt {usage.prompt_tokens} ({reused}{timings.prefill_tokens_per_second:.0f} tokens/s)",
        f"answer {usage.completion_tokens} ({timings.tokens_per_second:.1f} tokens/s{proposed})",
        f"first token {timings.time_to_first_token:.2f} s",
        f"memory {format_bytes(peak_memory())}",
    ]
    if usage.prompt_tokens + usage.completion_tokens >= context:
        parts.append(f"the context of {context} is full")
    return " · ".join(parts)


def in_colour() -> bool:
    """Whether what is printed on standard output keeps its colours."""
    colour = click.get_current_context().color
    return sys.stdout.isatty() if colour is None else colour


def peak_memory() -> int:
    """Peak resident set of this process in bytes, mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def amount(count: int) -> str:
    """A large number to three figures: ``2.61 B``, ``270 M``."""
    for scale, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= scale:
            value = count / scale
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return str(count)


def printable(text: str) -> str:
    """``text`` with escapes for what could control a terminal or not be encoded; lines stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def shortened(text: str, width: int) -> str:
    """``text`` on one line of at most so many characters, its beginning."""
    line = printable(" ".join(text[: 4 * width].split()))
    return line if len(line) <= width else line[: width - 1] + "…"


def without_control_characters(text: str) -> str:
    """``text`` with U+FFFD for characters that could control a terminal; tabs and lines stay."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
