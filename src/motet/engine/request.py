"""A caller's request: a prompt, how it is to be answered, and the answers that are not done."""

import time
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np

from motet.engine.answer import Answer
from motet.engine.completion import Chunk
from motet.errors import MotetError
from motet.sampling import Sampling, TokenLogprob, token_logprob
from motet.tokenizer import Tokenizer


@dataclass(eq=False)
class Request:
    """One prompt and ``count`` answers to it. Raises OptionError for an unusable stop string."""

    prompt: list[int]
    sampling: Sampling
    max_tokens: int
    outputs: SimpleQueue[Chunk | MotetError]
    """Where the caller reads: chunks, or the error that ended the request."""
    tokenizer: Tokenizer | None
    index: int = 0
    """Place of the first answer among the answers of the caller's call."""
    count: int = 1
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many of the most probable tokens to report beside the chosen one; None: no logprobs."""
    echo: str | None = None
    """Text that the answers begin with, the prompt's; with ``logprobs`` the prompt is scored."""
    stream: bool = False
    """A chunk a token; otherwise one at the end."""
    useful: tuple[int, ...] = ()
    """Positions in the prompt up to which later prompts may well be the same."""

    cancelled: bool = False
    """Set by the caller when it no longer reads, at any time."""
    submitted: float = field(default_factory=time.perf_counter)
    admitted: float = 0.0
    prefilled: int = 0
    """Prompt tokens in memory, all in the first answer's sequence."""
    reused: int = 0
    """Those of them that were there before."""
    cuts: set[int] = field(default_factory=set)
    """Positions in the prompt where a checkpoint is made."""
    answers: list[Answer] = field(init=False)
    """Those still to be finished."""
    prompt_logprobs: list[TokenLogprob | None] = field(default_factory=lambda: [None])

    def __post_init__(self) -> None:
        self.answers = [Answer(self, number) for number in range(self.count)]

    @property
    def scores_prompt(self) -> bool:
        return self.echo is not None and self.logprobs is not None

    def admit(self, sequences: list[int], reused: int) -> None:
        """Give each answer a memory sequence; the first holds so many prompt tokens already."""
        self.admitted = time.perf_counter()
        self.prefilled = self.reused = reused
        for answer, seq in zip(self.answers, sequences, strict=True):
            answer.seq = seq

    def score(self, logits: np.ndarray, start: int) -> None:
        """Note how probable the prompt tokens after position ``start`` are; a row a position."""
        assert self.logprobs is not None
        for row, token in zip(logits, self.prompt[start + 1 :], strict=False):
            self.prompt_logprobs.append(token_logprob(row, token, self.logprobs))
