"""What a decode takes outside of the kernels: planning, views, and Python between the layers.

    PYTHONPATH=src python -m benchmarks.step_overhead MODEL.gguf … [--sequences 1,16] [--steps 300]

Each of so many sequences is given one token a step, as when text is written. Microseconds a step,
of the thread's own processor time, so that other programs hardly count: the least and the median of
all steps, of

    batch     making the batch, checking it, cutting it into micro-batches
    plan      places for its tokens, the memory's new state, and taking it
    layers    views, and all that Python does for the layers, while kernels do nothing
    finite    looking whether the logits are numbers
    outside   the sum of these
    sampling  a token of each sequence's logits, greedily
    whole     the same decode with its kernels, on one thread

Kernels that do nothing are the native functions replaced by one that returns at once, so what
a real call takes to hand over its arguments counts as the kernel's.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import thread_time_ns
from typing import Any

import numpy as np

import motet
from motet import computing
from motet.finite import rows_not_finite
from motet.kernels import CPU
from motet.sampling.sampler import Sampler
from motet.split import split

PARTS = ("batch", "plan", "layers", "finite", "outside", "sampling", "whole")
PROMPT = 20
_PLANS = ("block_tables", "pack")
"""Native functions that compute nothing of a model."""


class Idle:
    """A native module whose kernels return at once."""

    def __init__(self, native: Any) -> None:
        for name in dir(native):
            part = getattr(native, name)
            computes = type(part).__name__ == "nb_func" and name not in _PLANS
            setattr(self, name, _nothing if computes else part)


def _nothing(*arguments: object) -> bool:
    return True


@contextmanager
def idle(kernels: CPU) -> Iterator[None]:
    """Within it kernels do nothing, and nobody looks at what they left."""
    native: Any = kernels._native
    kernels._native = Idle(native)
    computing.rows_not_finite = lambda x: []
    try:
        yield
    finally:
        kernels._native = native
        computing.rows_not_finite = rows_not_finite


class Steps:
    """A context whose sequences are given a token each, again and again."""

    def __init__(self, model: motet.Model, sequences: int) -> None:
        self.model, self.sequences = model, sequences
        self.context = model.context(max_sequences=sequences)
        prompts = motet.Batch()
        for seq in range(sequences):
            prompts.extend([seq % model.config.n_vocab] * PROMPT, 0, seq)
        self.context.decode(prompts)
        for seq in range(sequences):
            self.context.memory.checkpoint(seq)
        self.end = PROMPT

    def batch(self) -> motet.Batch:
        if self.end >= min(self.context.memory.context_length, 1024):
            self.context.memory.rewind(dict.fromkeys(range(self.sequences), PROMPT))
            self.end = PROMPT
        batch = motet.Batch()
        for seq in range(self.sequences):
            batch.add(1 + seq % 7, self.end, seq, True)
        return batch

    def measure(self, steps: int) -> dict[str, np.ndarray]:
        """Microseconds of each part, the least and the median of the steps."""
        context, every = self.context, [list[float]() for _ in range(6)]
        n_vocab, kernels = self.model.config.n_vocab, self.model.kernels
        assert isinstance(kernels, CPU)
        samplers = [Sampler(motet.Sampling(temperature=0)) for _ in range(self.sequences)]
        logits = context.decode(self.batch()).logits.copy()
        self.end += 1
        for _ in range(steps):
            self.batch()  # goes back where it has to, in nobody's time

            def enter() -> list[Any]:
                entries = self.batch().entries()
                entries.check(n_vocab, context.memory.ends)
                return split(entries, context.ubatch, context.split)

            def take(ubatches: list[Any]) -> None:
                plan = context.memory.plan(ubatches)
                plan.begin()
                for each in plan.micro_batches:
                    each.begin()
                plan.commit()

            entered, ubatches = timed(enter)
            planned, _ = timed(lambda given=ubatches: take(given))
            self.end += 1
            with idle(kernels):
                decoded, _ = timed(lambda: context.decode(self.batch()))
            self.end += 1
            finite, _ = timed(lambda: computing.rows_not_finite(logits))
            sampled, _ = timed(
                lambda: [each.sample(row) for each, row in zip(samplers, logits, strict=True)]
            )
            whole, _ = timed(lambda: context.decode(self.batch()))
            self.end += 1
            found = entered, planned, decoded, finite, sampled, whole
            for times, time in zip(every, found, strict=True):
                times.append(time)
        batch, plan, decoded, finite, sampling, whole = (
            np.array([min(times), median(times)]) for times in every
        )
        layers, outside = decoded - batch - plan, decoded + finite
        found = batch, plan, layers, finite, outside, sampling, whole
        return dict(zip(PARTS, found, strict=True))


def timed(do: Callable[[], Any]) -> tuple[float, Any]:
    """Microseconds of this thread, and what was done."""
    start = thread_time_ns()
    result = do()
    return (thread_time_ns() - start) / 1e3, result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--sequences", default="1,16")
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    print(f"| model | sequences | {' | '.join(PARTS)} |\n|---|---|{'---|' * len(PARTS)}")
    for path in options.models:
        model = motet.Model.load(path, threads=1)
        for sequences in map(int, options.sequences.split(",")):
            times = Steps(model, sequences).measure(options.steps)
            shown = (f"{least:.0f} ({middle:.0f})" for least, middle in times.values())
            print(f"| {model.name} | {sequences} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
