"""Which split is fastest where: simple, equal and sequence on the same batches, turn by turn.

    python benchmarks/splits.py MODEL.gguf… [--turns 5] [--ubatch 512] [--threads N] [--json FILE]

Give it an attention, a recurrent and a hybrid model (benchmarks/random_models.py makes them). The
batches: eight prompts of uneven lengths; sixteen sequences decoding; and HellaSwag's, where four
endings share a beginning. In each turn every split has one go, in changing order; one table shows
the tokens a second, median and (least to greatest). That all give the same logits is checked.
"""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from motet import Batch, Context, Model

SPLITS = ("simple", "equal", "sequence")
SEQUENCES = 32
PROMPTS = (17, 250, 64, 130, 41, 5, 200, 90)
STEPS = 8
TASKS = 4
SHARED = 80
ENDINGS = (9, 24, 15, 31)


@dataclass(frozen=True)
class Workload:
    """Batches that are measured, after others that are not."""

    name: str
    before: list[Batch]
    measured: list[Batch]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.measured))


def workloads(n_vocab: int) -> list[Workload]:
    random = np.random.default_rng(0)

    def tokens(count: int) -> np.ndarray:
        return random.integers(0, n_vocab, count)

    prompts, start, tasks = Batch(), Batch(), Batch()
    for seq, length in enumerate(PROMPTS):
        prompts.extend(tokens(length), 0, seq)
    for seq in range(16):
        start.extend(tokens(8), 0, seq)
    steps = [Batch() for _ in range(STEPS)]
    for position, step in enumerate(steps, 8):
        for seq in range(16):
            step.add(int(tokens(1)[0]), position, seq, logits=True)
    for first in range(0, 4 * TASKS, 4):
        tasks.extend(tokens(SHARED), 0, tuple(range(first, first + 4)))
        for seq, length in enumerate(ENDINGS, first):
            tasks.extend(tokens(length), SHARED, seq, logits="all")
    return [
        Workload(f"{len(PROMPTS)} uneven prompts", [], [prompts]),
        Workload("16 sequences decoding", [start], steps),
        Workload(f"{TASKS} HellaSwag tasks", [], [tasks]),
    ]


def go(context: Context, work: Workload) -> tuple[float, list[np.ndarray]]:
    """Seconds, and the logits."""
    context.memory.clear()
    for batch in work.before:
        context.decode(batch)
    start = perf_counter()
    logits = [context.decode(batch).logits for batch in work.measured]
    return perf_counter() - start, logits


def measure(model: Model, work: Workload, turns: int, ubatch: int) -> dict[str, list[float]]:
    """Tokens a second of every turn, by split."""
    contexts = {
        split: model.context(
            max_sequences=SEQUENCES,
            max_tokens=SEQUENCES * 320,
            ubatch=ubatch,
            split=split,
            checkpoint_bytes=0,
        )
        for split in SPLITS
    }
    expected = None
    for split, context in contexts.items():  # warms up
        _, logits = go(context, work)
        expected = expected or logits
        if not all(map(np.array_equal, logits, expected)):
            raise SystemExit(f"{work.name}: {split} gives other logits than {SPLITS[0]}")
    rates: dict[str, list[float]] = {split: [] for split in SPLITS}
    for turn in range(turns):
        for i in range(len(SPLITS)):
            split = SPLITS[(turn + i) % len(SPLITS)]
            rates[split].append(work.tokens / go(contexts[split], work)[0])
    return rates


def line(model: str, work: str, rates: dict[str, list[float]]) -> str:
    cells = [f"{median(r):.1f} ({min(r):.1f} to {max(r):.1f})" for r in rates.values()]
    best = max(rates, key=lambda split: median(rates[split]))
    return f"| {model} | {work} | {' | '.join(cells)} | {best} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--ubatch", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json")
    options = parser.parse_args()
    results = []
    print(f"| Model | Batch | {' | '.join(SPLITS)} | fastest |")
    print("|---" * (3 + len(SPLITS)) + "|")
    for path in options.models:
        model = Model.load(path, threads=options.threads)
        for work in workloads(model.config.n_vocab):
            rates = measure(model, work, options.turns, options.ubatch)
            results.append({"model": Path(path).stem, "batch": work.name, "rates": rates})
            print(line(Path(path).stem, work.name, rates), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
