"""Speed of answers as they are written, with speculation and without."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from motet.engine.load import Totals
from motet.errors import OptionError
from motet.llm import LLM
from motet.model import Model
from motet.self_extend import AutoExtend, SelfExtend


@dataclass(frozen=True)
class Writing:
    """Answers written at once, and that repeated."""

    speculate: str
    sequences: int
    prompt: int
    """Tokens of each prompt."""
    tokens: int
    """Tokens of all answers together."""
    seconds: tuple[float, ...]
    """Of each repetition, without those that the prompts took."""
    steps: int
    """In the last repetition, those of prompts included."""
    proposed: int
    accepted: int
    """Tokens in the last repetition that were computed before they were chosen, and those of them
    that then were."""

    @property
    def tokens_per_second(self) -> float:
        """Median over the repetitions, all answers together."""
        return self.tokens / statistics.median(self.seconds)

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step gives an answer on average; not quite 1 without speculation."""
        return self.tokens / max(self.steps * self.sequences, 1)


def written(
    model: Model,
    ways: Sequence[tuple[str, str | Model | None]],
    *,
    prompts: Sequence[int],
    text: str | None,
    generate: int,
    parallel: Sequence[int],
    repeat: int,
    self_extend: SelfExtend | AutoExtend | None = None,
    ubatch: int = 512,
    kv_type: str = "auto",
) -> Iterator[Writing]:
    """For each length of prompts and number of answers at once, written in each of the ``ways``.

    ``ways``: what each is called, and ``LLM``'s ``speculate``. Prompts are the beginning of
    ``text``, or random tokens without; where several are written at once, each has a first token of
    its own, and nothing is written for one that another said before. Answers are greedy and don't
    end before ``generate`` tokens. Raises OptionError for a text that is too short.
    """
    for length in prompts:
        for sequences in sorted({*parallel}):
            asked = _prompts(model, length, sequences, text)
            for name, speculate in ways:
                runs: list[Totals] = []
                for _ in range(repeat):
                    with LLM(  # a new one, for what was said the last time would be looked up
                        model,
                        max_sequences=sequences,
                        max_tokens=length + generate,
                        speculate=speculate,
                        prefix_reuse=False,
                        self_extend=self_extend,
                        ubatch=ubatch,
                        kv_type=kv_type,
                    ) as llm:
                        runs.append(_run(llm, asked, generate))
                last, tokens = runs[-1], sequences * generate
                seconds = tuple(run.generation_seconds for run in runs)
                yield Writing(
                    *(name, sequences, length, tokens, seconds),
                    *(last.steps, last.proposed_tokens, last.accepted_tokens),
                )


def _prompts(model: Model, length: int, sequences: int, text: str | None) -> list[list[int]]:
    rng = np.random.default_rng(0)
    n_vocab = model.config.n_vocab
    if text is None:
        return rng.integers(n_vocab, size=(sequences, length)).tolist()
    if model.tokenizer is None:
        raise OptionError("the model has no vocabulary, so a text can't be its prompt")
    ids = model.tokenizer.encode(text, add_special=True)[:length]
    if len(ids) < length:
        raise OptionError(
            f"the text has {len(ids)} tokens, and prompts of {length} are asked for",
            hint="give a longer one, or ask for shorter prompts",
        )
    return [[*ids[:-1], (ids[-1] + n) % n_vocab] for n in range(sequences)]


def _run(llm: LLM, prompts: Sequence[list[int]], generate: int) -> Totals:
    ends = () if llm.tokenizer is None else llm.tokenizer.eog
    banned = dict.fromkeys(ends, -math.inf)
    llm.generate(prompts, max_tokens=generate, temperature=0, logit_bias=banned)
    llm.held()  # once the last step is over, and counted
    return llm.load().total
