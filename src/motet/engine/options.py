"""What a caller asks of an answer, beside how its tokens are sampled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from motet import checks
from motet.engine.conversations import AsyncConversation, Conversation, Keeper
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
    client: str = ""
    timeout: float | None = None
    grammar: str | Grammar | None = None
    json_schema: Mapping[str, Any] | str | bool | None = None
    regex: str | None = None
    conversation: Conversation | AsyncConversation | None = None
    slot: int | None = None
    prediction: str | None = None
    max_proposed: int | None = None

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
            "client": checks.text("client", self.client),
            "timeout": checks.optional_seconds("timeout", self.timeout),
            "conversation": _conversation(self.conversation),
            "slot": checks.optional_whole("slot", self.slot),
            "prediction": None
            if self.prediction is None
            else checks.text("prediction", self.prediction),
            "max_proposed": checks.optional_whole("max_proposed", self.max_proposed),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.conversation is not None and self.n > 1:
            raise OptionError(
                f"n is {self.n}, and one answer goes on in a conversation",
                hint="leave n out, or fork the conversation for each answer",
            )
        if self.conversation is not None and self.slot is not None:
            raise OptionError("conversation and slot are both given", hint="choose one of them")

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
    def goes_on_in(self) -> Conversation | None:
        """``conversation`` as it is once it was checked."""
        return _conversation(self.conversation)

    @property
    def scores_prompt(self) -> bool:
        """Whether the log probabilities of the prompt's tokens are asked for."""
        return self.echo and self.logprobs is not None


class AnswerFields(SamplingFields, total=False):
    """Keyword arguments of ``LLM.chat`` and ``LLM.generate``."""

    max_tokens: int | None
    stop: str | Sequence[str] | None
    logprobs: int | None
    client: str
    timeout: float | None
    grammar: str | Grammar | None
    json_schema: Mapping[str, Any] | str | bool | None
    regex: str | None
    conversation: Conversation | AsyncConversation | None
    slot: int | None
    prediction: str | None
    max_proposed: int | None


class ChatFields(AnswerFields, total=False):
    """Those of ``LLM.chat``, but for ``n`` and ``stream``, which decide its type."""

    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any]
    parallel_tool_calls: bool
    template_options: Mapping[str, Any] | None
    continue_final_message: bool


class GenerateFields(AnswerFields, total=False):
    """Those of ``LLM.generate``, but for ``n`` and ``stream``."""

    echo: bool
    parse_special: bool
    checkpoints: Sequence[int]


def _conversation(value: object) -> Conversation | None:
    if value is None:
        return None
    if isinstance(value, AsyncConversation):
        return value.conversation
    hint = "give what llm.conversation() gives"
    return checks.instance("conversation", value, Conversation, hint)


def require_possible(
    options: GenerationOptions, prompts: int, keeper: Keeper, sequences: int
) -> None:
    """Raise OptionError where an answer is to be in a sequence that can't be its own.

    ``prompts``: of the call; ``keeper``, ``sequences``: of the engine.
    """
    conversation, slot = options.goes_on_in, options.slot
    if prompts != 1 and (conversation is not None or slot is not None):
        raise OptionError(
            f"there are {prompts} prompts, and one goes on in a conversation or slot",
            hint="give one prompt at a time",
        )
    if conversation is not None and conversation.keeper is not keeper:
        raise OptionError(
            "the conversation is another LLM's",
            hint="save it, and use restore_conversation of this LLM",
        )
    if slot is not None and slot >= sequences:
        raise OptionError(f"there is no slot {slot}", hint=f"use 0 to {sequences - 1}")
