"""What a caller gets back: whole completions, and the chunks of a streamed one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

from motet.chat_formats import ToolCall, ToolCallDelta
from motet.checks import shown
from motet.sampling import TokenLogprob


@dataclass(frozen=True)
class Usage:
    """Tokens of one completion.

    ``cached_tokens`` of the prompt were not computed again. ``reasoning_tokens`` of the completion
    are those of thoughts, with their marks. ``proposed_tokens`` were computed before they were
    chosen, and ``accepted_tokens`` of them then were (docs/speculation.md).
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    proposed_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True)
class Timings:
    """Seconds, from the moment the request was handed in.

    ``waiting``: until a sequence was free and it was its turn. ``time_to_first_token``: until the
    first token was chosen, waiting included. ``total``: until the last one. ``computed_tokens``:
    tokens of the prompt that were not in memory yet.
    """

    waiting: float
    time_to_first_token: float
    total: float
    computed_tokens: int
    completion_tokens: int

    @property
    def prefill_tokens_per_second(self) -> float:
        """Prompt tokens computed a second, beside whatever else was in the batches."""
        return self.computed_tokens / max(self.time_to_first_token - self.waiting, 1e-9)

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second after the first one; 0 where there is no second."""
        if self.completion_tokens < 2:
            return 0.0
        return (self.completion_tokens - 1) / max(self.total - self.time_to_first_token, 1e-9)


@dataclass(frozen=True, repr=False)
class Completion:
    """A finished answer.

    ``text`` ends before the stop string or the end-of-generation token that ended it; ``tokens``
    are all the tokens chosen, that one included. ``finish_reason`` is "stop", or "length" when
    ``max_tokens`` or the context ended it, or "tool_calls" when a chat's answer ended with
    ``tool_calls``. ``stop``: the stop string that ended it, None where none did. ``reasoning``:
    what a chat's model thought before it said ``text``; None where its template marks no thinking.
    ``index``: place among the answers of one call.
    ``seed`` gives the same text again. Where they were asked for, ``logprobs`` has an entry a token
    and ``prompt_logprobs`` an entry a prompt token (None for the first, which nothing precedes).
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    index: int
    seed: int
    usage: Usage
    timings: Timings
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    stop: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON: dictionaries, lists, text and finite numbers.

        A log probability of minus infinity is None.
        """
        return _plain(self)

    def __repr__(self) -> str:
        return (
            f"Completion({shown(self.text)}, {len(self.tokens)} tokens,"
            f" finish_reason={self.finish_reason!r}, index={self.index}, seed={self.seed})"
        )


@dataclass(frozen=True)
class Chunk:
    """What one token added to answer ``index``.

    ``text`` may be empty: half a character, or text that may become part of a stop string, is held
    back. The last chunk of an answer has the whole ``completion``, all others None. The texts of
    an answer's chunks together are its completion's text, and so are ``reasoning`` and
    ``tool_calls``.
    """

    index: int
    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    completion: Completion | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON, as ``Completion.to_dict`` has it."""
        return _plain(self)

    @property
    def finish_reason(self) -> str | None:
        """Of the completion, on the last chunk; None before."""
        return self.completion.finish_reason if self.completion else None


def _plain(value: Any) -> Any:
    """A result as JSON has it."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in cast(Sequence[Any], value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
