"""Showing an answer as it comes: text on standard output, what it took on standard error."""

import resource
import sys

import click

from motet.cli.patience import waiting
from motet.cli.text import size
from motet.engine import Completion
from motet.engine.stream import Stream


class Interrupted(Exception):
    """Ctrl-C ended an answer; ``text`` is what it had come to."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def show(stream: Stream) -> Completion:
    """Print a single answer as it comes. Raises Interrupted for Ctrl-C, after cancelling it."""
    texts: list[str] = []
    terminal = sys.stdout.isatty()
    try:
        with stream, waiting("reading the prompt", lambda: stream.prompt_progress) as begin:
            for chunk in stream:
                begin()
                texts.append(chunk.text)
                click.echo(harmless(chunk.text) if terminal else chunk.text, nl=False)
                if chunk.completion:
                    return chunk.completion
    except KeyboardInterrupt:
        raise Interrupted("".join(texts)) from None
    raise AssertionError("a stream ends with a completion")


def statistics(completion: Completion, context: int) -> str:
    """One line: speed, time to the first token, memory, whether the context is full."""
    usage, timings = completion.usage, completion.timings
    reused = f"{usage.cached_tokens} reused, " if usage.cached_tokens else ""
    parts = [
        f"prompt {usage.prompt_tokens} ({reused}{timings.prefill_tokens_per_second:.0f} tokens/s)",
        f"answer {usage.completion_tokens} ({timings.tokens_per_second:.1f} tokens/s)",
        f"first token {timings.time_to_first_token:.2f} s",
        f"memory {size(peak_memory())}",
    ]
    if usage.prompt_tokens + usage.completion_tokens >= context:
        parts.append(f"the context of {context} is full")
    return " · ".join(parts)


def peak_memory() -> int:
    """The most bytes this process has had in memory at once, mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def harmless(text: str) -> str:
    """Text without the control characters that steer a terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
