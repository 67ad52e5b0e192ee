"""What a caller asks of an answer, beside how its tokens are sampled."""

from collections.abc import Sequence
from dataclasses import dataclass

from motet import checks
from motet.sampling import SamplingFields


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
    client: str = ""
    timeout: float | None = None

    def __post_init__(self) -> None:
        checked = {
            "max_tokens": checks.optional_whole("max_tokens", self.max_tokens),
            "n": checks.whole("n", self.n, 1),
            "stop": None if self.stop is None else checks.texts("stop", self.stop, "a stop string"),
            "logprobs": checks.optional_whole("logprobs", self.logprobs),
            "echo": checks.flag("echo", self.echo),
            "parse_special": checks.flag("parse_special", self.parse_special),
            "checkpoints": tuple(
                checks.whole("a position in checkpoints", position)
                for position in checks.listed("checkpoints", self.checkpoints, "positions")
            ),
            "client": checks.text("client", self.client),
            "timeout": checks.optional_seconds("timeout", self.timeout),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """``stop`` as a tuple, which it is once it was checked."""
        return tuple(self.stop or ())

    @property
    def scores_prompt(self) -> bool:
        """Whether the log probabilities of the prompt's tokens are asked for."""
        return self.echo and self.logprobs is not None


class ChatFields(SamplingFields, total=False):
    """Keyword arguments of ``LLM.chat``, but for ``n`` and ``stream``, which decide its type."""

    max_tokens: int | None
    stop: str | Sequence[str] | None
    logprobs: int | None
    client: str
    timeout: float | None


class GenerateFields(ChatFields, total=False):
    """Keyword arguments of ``LLM.generate``, but for ``n`` and ``stream``."""

    echo: bool
    parse_special: bool
    checkpoints: Sequence[int]
