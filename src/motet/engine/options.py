"""What a caller asks of an answer, beside how its tokens are sampled."""

from collections.abc import Sequence
from dataclasses import dataclass

from motet.sampling import SamplingFields, StopStrings
from motet.sampling.options import whole_number


@dataclass(frozen=True)
class GenerationOptions:
    """See ``LLM.generate``. Raises OptionError for an unusable value."""

    max_tokens: int | None = None
    n: int = 1
    stop: str | Sequence[str] | None = None
    logprobs: int | None = None
    echo: bool = False
    parse_special: bool = True
    checkpoints: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            whole_number("max_tokens", self.max_tokens, 0)
        whole_number("n", self.n, 1)
        StopStrings(self.stop_strings)  # which refuses unusable ones
        if self.logprobs is not None:
            whole_number("logprobs", self.logprobs, 0)
        for position in self.checkpoints:
            whole_number("a position in checkpoints", position, 0)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """``stop`` as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def scores_prompt(self) -> bool:
        """Whether the log probabilities of the prompt's tokens are asked for."""
        return self.echo and self.logprobs is not None


class ChatFields(SamplingFields, total=False):
    """Keyword arguments of ``LLM.chat``, but for ``n`` and ``stream``, which decide its type."""

    max_tokens: int | None
    stop: str | Sequence[str] | None
    logprobs: int | None


class GenerateFields(ChatFields, total=False):
    """Keyword arguments of ``LLM.generate``, but for ``n`` and ``stream``."""

    echo: bool
    parse_special: bool
    checkpoints: Sequence[int]
