"""What a caller asks of an answer, beside how its tokens are sampled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from motet import checks
from motet.errors import OptionError
from motet.grammar import Grammar, GrammarCompiler
from motet.sampling import SamplingFields

CONSTRAINTS = ("grammar", "json_schema", "regex")
"""Options that say what an answer may be; at most one of them is given."""


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
    grammar: str | Grammar | None = None
    json_schema: Mapping[str, Any] | str | bool | None = None
    regex: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in CONSTRAINTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise OptionError(
                f"{' and '.join(given)} are given together", hint="an answer is held to one of them"
            )
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
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def constraint(self, grammars: GrammarCompiler) -> Grammar | None:
        """What answers are held to, compiled. Raises what ``GrammarCompiler`` does."""
        if self.grammar is not None:
            grammar = self.grammar
            if isinstance(grammar, Grammar):
                return grammars.own(grammar)
            return grammars.gbnf_or_lark(grammar)
        if self.json_schema is not None:
            return grammars.json_schema(self.json_schema)
        return None if self.regex is None else grammars.regex(self.regex)

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
    grammar: str | Grammar | None
    json_schema: Mapping[str, Any] | str | bool | None
    regex: str | None


class GenerateFields(ChatFields, total=False):
    """Keyword arguments of ``LLM.generate``, but for ``n`` and ``stream``."""

    echo: bool
    parse_special: bool
    checkpoints: Sequence[int]
