"""What Self-Extend costs: plain and extended attention at the same length, turn by turn.

    python -m benchmarks.self_extend MODEL.gguf… [--length 4096] [--group 8] [--window 1024]
                                     [--turns 5] [--threads N] [--json FILE]

Decoding: STEPS tokens after ``length`` ones. Prefill: ``length`` tokens at once, in micro-batches.
In each turn both have one go at prefill and eight at decoding, in changing order; the table shows
the tokens a second, median and (least to greatest), and the median over the goes of how much longer
Self-Extend takes. That
both hold as many bytes of keys and values is checked.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from motet import Batch, Context, Model, SelfExtend

VARIANTS = ("plain", "extended")
STEPS = 16
OFTEN = {"prefill": 1, "decode": 8}
"""Goes in a turn: those of decoding are short, and the machine's pace changes by the second."""


def prefill(context: Context, tokens: np.ndarray) -> int:
    """Everything, from an empty memory. Returns how many tokens that is."""
    context.memory.clear()
    batch = Batch()
    batch.extend(tokens, 0, logits="last")
    context.decode(batch)
    return len(tokens)


def decode(context: Context, tokens: np.ndarray) -> int:
    """STEPS tokens, one at a time, after what a prefill of ``tokens`` left."""
    context.memory.remove(0, start=len(tokens))
    for position in range(len(tokens), len(tokens) + STEPS):
        batch = Batch()
        batch.add(int(tokens[position % len(tokens)]), position, seqs=0, logits=True)
        context.decode(batch)
    return STEPS


def stored(context: Context) -> int:
    """Bytes of the arrays that hold keys and values."""
    layers = [layer for cache in context.memory.caches for layer in cache.arrays.values()]
    return sum(array.nbytes for layer in layers for array in layer.values())


WORK: dict[str, Callable[[Context, np.ndarray], int]] = {"prefill": prefill, "decode": decode}


def measure(
    model: Model, length: int, setting: SelfExtend, turns: int
) -> dict[str, dict[str, list[float]]]:
    """Tokens a second of every go, by work and variant."""
    contexts = {
        variant: model.context(
            max_tokens=length + STEPS,
            context_length=length + STEPS,
            self_extend=setting if variant == "extended" else None,
        )
        for variant in VARIANTS
    }
    tokens = np.random.default_rng(0).integers(0, model.config.n_vocab, length)
    rates: dict[str, dict[str, list[float]]] = {}
    for name, work in WORK.items():
        rates[name] = {variant: [] for variant in VARIANTS}
        for context in contexts.values():  # warms up; decoding has its prompt from prefill
            work(context, tokens)
        for turn in range(turns * OFTEN[name]):
            for variant in VARIANTS if turn % 2 else VARIANTS[::-1]:
                start = perf_counter()
                count = work(contexts[variant], tokens)
                rates[name][variant].append(count / (perf_counter() - start))
    bytes_held = {variant: stored(context) for variant, context in contexts.items()}
    if len(set(bytes_held.values())) > 1:
        raise SystemExit(f"the variants hold differing bytes: {bytes_held}")
    return rates


def more_time(rates: dict[str, list[float]]) -> float:
    """Share by which Self-Extend takes longer, the median over the goes."""
    pairs = zip(rates["plain"], rates["extended"], strict=True)
    return median(plain / extended for plain, extended in pairs) - 1


def line(model: str, work: str, rates: dict[str, list[float]]) -> str:
    cells = [
        f"{median(rates[a]):.1f} ({min(rates[a]):.1f} to {max(rates[a]):.1f})" for a in VARIANTS
    ]
    return f"| {model} | {work} | {cells[0]} | {cells[1]} | {more_time(rates):+.1%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    setting = SelfExtend(options.group, options.window)
    results = []
    print(f"{options.length} tokens, {setting}, {options.threads} threads\n")
    print("| Model | Work | plain, tokens/s | Self-Extend, tokens/s | more time |")
    print("|---|---|---|---|---|")
    for path in options.models:
        model = Model.load(path, threads=options.threads)
        for work, rates in measure(model, options.length, setting, options.turns).items():
            name = f"{work}, {options.length} tokens"
            medians = {variant: median(rates[variant]) for variant in VARIANTS}
            facts = {"model": Path(path).stem, "work": name, "more time": more_time(rates)}
            results.append(facts | medians | {"rates": rates})
            print(line(Path(path).stem, name, rates), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
