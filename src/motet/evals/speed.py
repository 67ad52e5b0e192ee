"""Speed of a model in prefill or encoding, and in decode, beside the read bandwidth of memory."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from motet.batch import Batch
from motet.errors import OptionError
from motet.evals.predictions import max_positions
from motet.model import Model
from motet.runnable import Decodes, Encodes
from motet.self_extend import BEYOND, AutoExtend, SelfExtend


@dataclass(frozen=True)
class Speed:
    """One measurement, repeated. Decode reads every packed weight once a step."""

    test: str
    """ "prefill", "encode" or "decode"."""
    sequences: int
    prompt: int
    """Tokens of each sequence before, or in, the measurement."""
    tokens: int
    """Tokens computed in one repetition, of all sequences."""
    seconds: tuple[float, ...]
    """Of each repetition."""
    weight_bytes: int
    """Packed bytes read in a repetition of "decode"; 0 for the others, which arithmetic and not
    memory limits."""

    @property
    def tokens_per_second(self) -> float:
        """Median over the repetitions, all sequences together."""
        return self.tokens / statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median time."""
        return (max(self.seconds) - min(self.seconds)) / statistics.median(self.seconds)

    @property
    def bandwidth(self) -> float:
        """Bytes of weights a second, at the median."""
        return self.weight_bytes / statistics.median(self.seconds)


def measure(
    model: Model,
    *,
    prompts: list[int],
    generate: int,
    parallel: list[int],
    repeat: int,
    self_extend: SelfExtend | AutoExtend | str | None = None,
    ubatch: int = 512,
    kv_type: str = "auto",
) -> Iterator[Speed]:
    """For each prompt length: prefill of it alone, then decode after it, so many sequences at once.

    Of an encoder the prompt is encoded, and nothing is decoded; of an encoder-decoder it is
    encoded, and what is decoded attends to it.

    The tokens are random ones of the vocabulary, and no sampling is done. ``self_extend``: as for
    ``Model.context``. Raises OptionError, at the call, when a prompt and what is generated after it
    are more than a sequence may have, UnsupportedError where Self-Extend does not apply.
    """
    _require_room(model, prompts, generate, self_extend)
    together = {1} if encodes_alone(model) else {1, *parallel}
    return (
        speed
        for prompt in prompts
        for sequences in sorted(together)
        for speed in _measure(
            _Workload(model, sequences, prompt, generate, self_extend, ubatch, kv_type),
            decodes=sequences in parallel,
            repeat=repeat,
        )
    )


def encodes_alone(model: Model) -> bool:
    """Whether there is nothing to decode."""
    return isinstance(model.family, Encodes) and not isinstance(model.family, Decodes)


def longest_prompt(
    model: Model, generate: int, self_extend: SelfExtend | AutoExtend | str | None = None
) -> int:
    """Tokens that a prompt may have, less than 1 where ``generate`` leave no room for it."""
    most = max_positions(model, self_extend)
    return most if isinstance(model.family, Encodes) else most - generate


def _require_room(
    model: Model,
    prompts: list[int],
    generate: int,
    self_extend: SelfExtend | AutoExtend | str | None,
) -> None:
    """Raise OptionError for more tokens than a sequence may have."""
    longest, most = _longest(model, prompts, generate), max_positions(model, self_extend)
    if longest <= most:
        return
    reason = "Self-Extend reaches" if self_extend else "the model was trained for"
    if isinstance(model.family, Encodes):
        prompt = max(prompts) == longest
        raise OptionError(
            f"{'prompts' if prompt else 'answers'} of up to {longest} tokens, but {reason} {most}",
            hint="use shorter prompts" if prompt else "generate less",
        )
    raise OptionError(
        f"prompts of up to {max(prompts)} tokens and {generate} generated after them make "
        f"{longest}, but {reason} {most}",
        hint="use shorter prompts or generate less" + ("" if self_extend else f", {BEYOND}"),
    )


def _longest(model: Model, prompts: list[int], generate: int) -> int:
    """Tokens of the longest sequence."""
    if not isinstance(model.family, Encodes):
        return max(prompts) + generate
    return max(prompts) if encodes_alone(model) else max(*prompts, generate)


def _measure(work: "_Workload", decodes: bool, repeat: int) -> Iterator[Speed]:
    work.read()  # warms up the pages of the file and of the caches, and the processor
    if work.sequences == 1:
        seconds = tuple(_seconds(work.read) for _ in range(repeat))
        yield Speed(
            "encode" if work.encodes else "prefill", 1, work.prompt, work.prompt, seconds, 0
        )
    if decodes and work.decodes:
        times: list[float] = []
        for _ in range(repeat + 1):  # the first warms up
            work.rewind()
            times.append(_seconds(work.decode))
        tokens, read = work.sequences * work.generate, work.generate * work.model.bytes_per_token
        yield Speed("decode", work.sequences, work.prompt, tokens, tuple(times[1:]), read)


def _seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class _Workload:
    """Sequences of random tokens; each has a second one that holds its prompt to fork from."""

    def __init__(
        self,
        model: Model,
        sequences: int,
        prompt: int,
        generate: int,
        self_extend: SelfExtend | AutoExtend | str | None,
        ubatch: int,
        kv_type: str,
    ) -> None:
        self.model = model
        self.sequences = sequences
        self.prompt = prompt
        self.generate = generate
        self.encodes = isinstance(model.family, Encodes)
        self.decodes = not encodes_alone(model)
        self._context = model.context(
            max_sequences=2 * sequences,
            max_tokens=sequences * (prompt + generate),
            self_extend=self_extend,
            context_length=_longest(model, [prompt], generate),
            ubatch=ubatch,
            kv_type=kv_type,
        )
        self._random = np.random.default_rng(0)

    def read(self) -> None:
        """Every prompt, anew, in one batch."""
        batch = Batch()
        self._context.memory.clear()
        for seq in range(self.sequences):
            batch.extend(self._tokens(self.prompt), 0, seqs=self.sequences + seq, logits="last")
        if self.encodes:
            self._context.encode(batch)
        else:
            self._context.decode(batch)

    def rewind(self) -> None:
        """Every sequence back to the end of its prompt."""
        for seq in range(self.sequences):
            self._context.memory.remove(seq)
            self._context.memory.copy(self.sequences + seq, seq)

    def decode(self) -> None:
        """``generate`` steps of one more token in every sequence."""
        start = 0 if self.encodes else self.prompt
        for position in range(start, start + self.generate):
            batch = Batch()
            for seq, token in enumerate(self._tokens(self.sequences)):
                batch.add(token, position, seqs=seq, logits=True)
            self._context.decode(batch)

    def _tokens(self, count: int) -> list[int]:
        return self._random.integers(self.model.config.n_vocab, size=count).tolist()
