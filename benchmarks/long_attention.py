"""Attention alone over long contexts, beside a plain read of the same keys and values.

    python benchmarks/long_attention.py decode . [../before …] [--threads 1] [--lengths 8 32 128]
    python benchmarks/long_attention.py prefill . [../before …]
    python benchmarks/long_attention.py mixed .

A variant is a source tree (its `src` with the compiled kernels in it). Each has a process of its
own; they take turns, one runs at a time. `decode`: one query a sequence (and eight queries of one,
as speculation verifies), as GB/s of keys and values; beside it what reading these bytes and doing
nothing with them gives in the same turn, and the share. `prefill`: 512 queries at the end of a
context, as GFLOP/s of the products of scores and of values; beside it a float32 matrix product of
NumPy's. `mixed`: one long and fifteen short sequences in one batch, beside the two apart. With one
thread the time is the thread's own: what other programs take of its core does not count. Times are
medians over the turns; ratios are medians of the ratios in a turn.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import numpy as np

SHAPES = {
    "llama-1b": (32, 8, 64, 0.0),
    "qwen2-1.5b": (12, 2, 128, 0.0),
    "llama-8b": (32, 8, 128, 0.0),
    "gemma2-2b": (8, 4, 256, 50.0),
}
"""Query heads, heads of keys and values, channels, soft cap."""
KV_TYPES = ("f16", "q8_0", "bf16", "f32")
BEYOND_CACHES = 160 << 20
"""Bytes that a pass goes through at least, in so many layers: as in a model."""
MOST_BYTES = 3 << 30
PREFILL = 512
OTHER = np.ones(BEYOND_CACHES, np.uint8)
SQUARE = np.ones((1024, 1024), np.float32)
PRODUCT = 2 * len(SQUARE) ** 3


@dataclass(frozen=True)
class Case:
    """Sequences of these lengths, whose last ``new`` tokens are computed."""

    shape: str
    kv_type: str
    lengths: list[int]
    new: int
    layers: int = 0
    """0: as many as exceed the processor's caches, to decode; one for more queries."""

    def flops(self) -> int:
        """Of one layer's products, for the keys that each query sees."""
        heads, _, channels, _ = SHAPES[self.shape]
        seen = sum(n * self.new - self.new * (self.new - 1) // 2 for n in self.lengths)
        return 4 * heads * channels * seen


def uneven(total: int) -> list[int]:
    """Eight lengths from short to long, together about ``total``."""
    parts = [1, 2, 3, 5, 8, 12, 16, 17]
    return [max(64, total * part // sum(parts)) for part in parts]


def layers_of(layer_bytes: int) -> int:
    """How many exceed the processor's caches."""
    return -(-BEYOND_CACHES // layer_bytes)


class Layers:
    """Caches of random keys and values, in as many layers as exceed the processor's caches."""

    def __init__(self, kernels: Any, case: Case) -> None:
        from motet.kernels import PAGE, Rope
        from motet.kernels.interface import PagedKV

        self.kernels = kernels
        heads, kv_heads, channels, self.softcap = SHAPES[case.shape]
        counts = [-(-n // PAGE) for n in case.lengths]
        pages = sum(counts)
        layer_bytes = pages * kernels.page_bytes(kv_heads, channels, channels, case.kv_type)
        if layer_bytes > MOST_BYTES:
            raise SystemExit(f"{case} takes {layer_bytes >> 20} MB")
        self.layers = case.layers or 1
        if not case.layers and case.new < PREFILL:
            self.layers = layers_of(layer_bytes)
        self.pages = [
            kernels.allocate_pages(pages, kv_heads, channels, channels, case.kv_type)
            for _ in range(self.layers)
        ]
        self.bytes = layer_bytes * self.layers
        rng = np.random.default_rng(0)
        for layer in self.pages:
            fill(layer, rng)
        tables = np.full((len(counts), max(counts)), -1, np.int32)
        masks = np.zeros(tables.shape, np.uint64)
        order, at = rng.permutation(pages).astype(np.int32), 0
        for row, (count, length) in enumerate(zip(counts, case.lengths, strict=True)):
            tables[row, :count] = order[at : at + count]
            masks[row, :count] = ~np.uint64(0)
            if length % PAGE:
                masks[row, count - 1] = (1 << length % PAGE) - 1
            at += count
        rows = np.repeat(np.arange(len(counts), dtype=np.int32), case.new)
        ends = [np.arange(n - case.new, n, dtype=np.int32) for n in case.lengths]
        positions = np.concatenate(ends)
        slots = tables[rows, positions // PAGE].astype(np.int64) * PAGE + positions % PAGE
        self.tables = kernels.block_tables(tables, masks, rows, positions, slots)
        self.kv = [PagedKV(layer, self.tables) for layer in self.pages]
        self.q = rng.standard_normal((len(rows), heads, channels)).astype(np.float32)
        self.k, self.v = rng.standard_normal((2, len(rows), kv_heads, channels)).astype(np.float32)
        self.rope = Rope(5e5 ** (-np.arange(0, channels, 2) / channels))
        self.scale = channels**-0.5

    def attend(self) -> None:
        for kv in self.kv:
            self.kernels.attention(
                self.q, self.k, self.v, kv, scale=self.scale, softcap=self.softcap, rope=self.rope
            )

    def read(self) -> None:
        for layer in self.pages:
            self.kernels._native.read_all(self.kernels._pool, layer.buffer.reshape(-1))


def fill(layer: Any, rng: np.random.Generator) -> None:
    """A few pages of random numbers, over and over."""
    few = min(16, layer.pages)
    for name, array in layer.arrays.items():
        shape = few, *array.shape[1:]
        if "scales" in name:
            array[:few] = rng.uniform(0.005, 0.02, shape)
        elif layer.kv_type == "q8_0":
            array[:few] = rng.integers(-127, 128, shape)
        else:
            numbers = rng.standard_normal(shape, np.float32)
            bits = layer.kv_type == "bf16"
            array[:few] = numbers.view(np.uint32) >> 16 if bits else numbers
    for start in range(few, layer.pages, few):
        count = min(few, layer.pages - start)
        layer.buffer[start : start + count] = layer.buffer[:count]


def multiply() -> None:
    """A product of ``PRODUCT`` float operations."""
    np.matmul(SQUARE, SQUARE)


def work(threads: int, isa: str | None) -> None:
    """Answer each line of a case with the seconds of attention and of reading, and the bytes."""
    from motet.kernels import CPU

    kernels = CPU(threads, isa)
    clock = thread_time if threads == 1 else perf_counter
    held: dict[str, Layers] = {}
    for line in sys.stdin:
        case = Case(**json.loads(line))
        if line not in held:
            if not case.layers:
                held.clear()
            held[line] = Layers(kernels, case)
            held[line].attend()
        layers = held[line]
        if case.layers:
            OTHER.max()  # what other cases have read is not in the caches any more
        seconds = []
        for run in (layers.attend, multiply if case.new >= PREFILL else layers.read):
            start = clock()
            run()
            seconds.append(clock() - start)
        print(json.dumps([*seconds, layers.bytes]), flush=True)


class Worker:
    """A process of one source tree."""

    def __init__(self, tree: str, threads: int, isa: str | None) -> None:
        command = [sys.executable, __file__, "work", "--threads", str(threads)]
        command += ["--isa", isa] if isa else []
        path = str((Path(tree) / "src").resolve())
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": str(threads)},
        )

    def ask(self, case: Case) -> tuple[float, float, int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asdict(case)) + "\n")
        self.process.stdin.flush()
        attend, read, size = json.loads(self.process.stdout.readline())
        return attend, read, size


Said = list[tuple[float, float, int]]


def rounds(workers: list[Worker], turns: int, case: Case) -> list[Said]:
    """What each worker says of the case, in each turn."""
    said: list[Said] = [[] for _ in workers]
    for turn in range(turns):
        for i in range(len(workers)):
            which = (turn + i) % len(workers)  # the first after a pause is slower
            said[which].append(workers[which].ask(case))
    return said


def cells(case: Case, said: list[Said]) -> str:
    """One of each variant."""
    out = ""
    for mine in said:
        seconds, other = median(s[0] for s in mine), median(s[1] for s in mine)
        if case.new >= PREFILL:
            done = case.flops() / seconds / 1e9
            out += f"{1e3 * seconds:.0f} ms, {done:.1f} of {PRODUCT / other / 1e9:.0f} GFLOP/s"
        else:
            share = median(s[1] / s[0] for s in mine)
            rate = mine[0][2] / 1e9
            out += f"{rate / seconds:.1f} of {rate / other:.1f} GB/s: {share:.2f}"
        if mine is not said[0]:
            ratio = median(a[0] / b[0] for a, b in zip(mine, said[0], strict=True))
            out += f", × {ratio:.2f} of the time"
        out += " | "
    return out


def mixed_cells(shape: str, kv: str, length: int, workers: list[Worker], turns: int) -> str:
    """One of each variant: milliseconds together, of the long one, of the short ones; the ratio."""
    short = [100 + 50 * i for i in range(15)]
    out = ""
    for worker in workers:
        times = []
        for _ in range(turns):
            cases = [Case(shape, kv, n, 1, layers=4) for n in ([length, *short], [length], short)]
            times.append([worker.ask(case)[0] for case in cases])
        together, long, apart = (1e3 * median(t[i] for t in times) for i in range(3))
        ratio = median(t[0] / (t[1] + t[2]) for t in times)
        out += f"{together:.2f}, apart {long:.2f} + {apart:.2f} ms: × {ratio:.2f} | "
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["decode", "prefill", "mixed", "work"])
    parser.add_argument("variants", nargs="*", default=["."])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--isa")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--types", nargs="+", default=["f16", "q8_0"], choices=KV_TYPES)
    parser.add_argument("--lengths", nargs="+", type=int, default=[8, 32, 128], help="thousands")
    parser.add_argument("--kinds", nargs="+", default=["one", "8 uneven", "8 queries"])
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    if options.what == "work":
        return work(options.threads, options.isa)
    workers = [Worker(name, options.threads, options.isa) for name in options.variants]
    print(f"| | {' | '.join(options.variants)} |\n|{'---|' * (len(workers) + 1)}")
    for shape in options.shapes:
        for kv in options.types:
            for thousands in options.lengths:
                length, label = thousands << 10, f"| {shape} {kv} {thousands}k"
                cases = {"": Case(shape, kv, [length], PREFILL)}
                if options.what == "mixed":
                    line = mixed_cells(shape, kv, length, workers, options.turns)
                    print(f"{label} | {line}", flush=True)
                    continue
                if options.what == "decode":
                    cases = {
                        "one": Case(shape, kv, [length], 1),
                        "8 uneven": Case(shape, kv, uneven(length), 1),
                        "8 queries": Case(shape, kv, [length], 8),
                    }
                for kind, case in cases.items():
                    if not kind or kind in options.kinds:
                        line = cells(case, rounds(workers, options.turns, case))
                        print(f"{label} {kind} | {line}", flush=True)
    return None


if __name__ == "__main__":
    main()
