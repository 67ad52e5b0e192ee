"""The context that an engine owns, made anew for each Self-Extend setting."""

from dataclasses import dataclass

from motet import checks
from motet.context import Context, position_limit
from motet.engine.embedding import AT_ONCE
from motet.errors import OptionError
from motet.memory.budget import default_kv_bytes
from motet.model import Model
from motet.self_extend import BEYOND, AutoExtend, SelfExtend


@dataclass(frozen=True)
class ContextFactory:
    """Makes an engine's contexts, which differ in Self-Extend alone; see ``LLM`` for the fields."""

    model: Model
    max_sequences: int
    max_tokens: int | None
    ubatch: int
    split: str
    kv_type: str
    kv_bytes: int | None
    checkpoint_bytes: int | None

    def __post_init__(self) -> None:
        checked = {
            "max_sequences": checks.whole("max_sequences", self.max_sequences, 1),
            "max_tokens": checks.optional_whole("max_tokens", self.max_tokens, 1),
            "ubatch": checks.whole("ubatch", self.ubatch, 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def make(self, self_extend: SelfExtend | AutoExtend | str | None) -> tuple[Context, int]:
        """A context and its context length, which is how many tokens a sequence holds:
        ``max_tokens``, or those that the model was trained for, or as far as Self-Extend reaches.

        Raises OptionError where ``max_tokens`` are more, and what ``Model.context`` raises.
        """
        length = self.max_tokens
        if self_extend is None:
            length = length or self.model.config.context_length
            self._check_without_self_extend(length)
        context = self.model.context(
            max_sequences=self.max_sequences,
            max_tokens=length and self.max_sequences * length,
            ubatch=self.ubatch,
            split=self.split,
            kv_type=self.kv_type,
            self_extend=self_extend,
            context_length=length if self_extend is not None else None,
            kv_bytes=self.kv_bytes,
            checkpoint_bytes=self.checkpoint_bytes,
            pooling="none",
        )
        return context, length or context.memory.context_length

    def pooled(self, pooling: str) -> Context:
        """A context for vectors: of many short sequences, and of one as long as there may be.

        Raises what ``Model.context`` raises.
        """
        kv_bytes = default_kv_bytes()
        return self.model.context(
            max_sequences=min(self.ubatch, AT_ONCE) + 1,
            ubatch=self.ubatch,
            kv_type=self.kv_type,
            kv_bytes=kv_bytes if self.kv_bytes is None else min(kv_bytes, self.kv_bytes),
            checkpoint_bytes=0,
            pooling=pooling,
        )

    def _check_without_self_extend(self, length: int) -> None:
        """Raise OptionError for more tokens than a sequence may have without Self-Extend."""
        trained = self.model.config.context_length
        if length > position_limit(self.model):
            raise OptionError(
                f"max_tokens is {length}, but the model was trained for {trained}",
                hint=f"use at most {trained}, {BEYOND}",
            )
