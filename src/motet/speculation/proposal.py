"""What may come next in a sequence, proposed before the model has said it.

A proposal changes what a step costs, never what it gives: each token is chosen from the model's own
logits, and a proposed one that differs is taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from motet.sampling import Sampler


@dataclass(frozen=True, slots=True)
class Wanted:
    """A sequence whose next tokens are asked for."""

    seq: int
    tokens: list[int]
    """Prompt and answer so far: one list as long as the sequence lives, which grows and is never
    cut. Another list with the same ``seq`` is another sequence."""
    most: int
    """Tokens of use at most."""
    prediction: Sequence[int] = ()
    """Of a text that the answer probably repeats: one list as long as the sequence lives."""
    sampler: Sampler | None = None
    """The answer's own, to be copied, never drawn from."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Tokens that may follow, at least one."""

    tokens: tuple[int, ...]
    quality: int
    """How many tokens before them match; 0 where nothing was matched."""
    source: str
    """Where they come from, in a word."""


class Proposer(Protocol):
    """Proposes tokens. Used from one thread at a time; holds memory of bounded size."""

    def propose(self, wanted: Sequence[Wanted]) -> list[Proposal | None]:
        """A proposal of at most ``most`` tokens for each sequence, or None where there is none."""
        ...

    def ended(self, seq: int, tokens: Sequence[int], start: int) -> None:
        """Nothing more is asked of a sequence, whose answer is ``tokens[start:]``: what was kept
        for it is released, and the answer may serve others. Where that is empty, nothing of it
        is to be kept."""
        ...

    def forget(self) -> None:
        """Release what was kept of sequences that have ended."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...
