"""The context that an engine owns, made anew for each Self-Extend setting."""

from dataclasses import dataclass

from motet.context import Context
from motet.errors import OptionError
from motet.model import Model
from motet.sampling.options import whole_number
from motet.self_extend import BEYOND, AutoExtend, SelfExtend


@dataclass(frozen=True)
class Contexts:
    """What an engine's contexts have in common; see ``LLM`` for what it means."""

    model: Model
    max_sequences: int
    max_tokens: int | None
    ubatch: int
    split: str
    kv_type: str
    checkpoint_bytes: int | None

    def __post_init__(self) -> None:
        whole_number("max_sequences", self.max_sequences, 1)
        if self.max_tokens is not None:
            whole_number("max_tokens", self.max_tokens, 1)
        whole_number("ubatch", self.ubatch, 1)

    def make(self, self_extend: SelfExtend | AutoExtend | str | None) -> tuple[Context, int]:
        """A context, and how many tokens each of its sequences holds: ``max_tokens``, or those that
        the model was trained for, or as far as Self-Extend reaches.

        Raises OptionError where ``max_tokens`` are more, and what ``Model.context`` raises.
        """
        longest = self.max_tokens
        if self_extend is None:
            longest = longest or self.model.config.context_length
            self._require_plain(longest)
        context = self.model.context(
            max_sequences=self.max_sequences,
            max_tokens=longest and self.max_sequences * longest,
            ubatch=self.ubatch,
            split=self.split,
            kv_type=self.kv_type,
            self_extend=self_extend,
            context_length=longest if self_extend is not None else None,
            checkpoint_bytes=self.checkpoint_bytes,
        )
        return context, longest or context.memory.context_length

    def _require_plain(self, longest: int) -> None:
        """Raise OptionError for more tokens than a sequence may have without Self-Extend."""
        trained = self.model.config.context_length
        if longest <= trained:
            return
        most = self.model.context(max_tokens=1).memory.context_length  # recurrent: no limit
        if longest > most:
            raise OptionError(
                f"max_tokens is {longest}, but the model was trained for {trained}",
                hint=f"use at most {trained}, {BEYOND}",
            )
