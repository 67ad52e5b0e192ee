"""The kernels alone: products of a few rows with many weights, and attention; variants interleaved.

    python benchmarks/kernel_speed.py linear . ../before .@4,512,1/2
    python benchmarks/kernel_speed.py attention . ../before

A variant is a source tree (its `src` with the compiled kernels in it), and after an @ a tuning of
the matrix kernels, for all weights and numbers of rows: strips read side by side, bytes of prefetch
and the level of cache that it fills / chains of sums / 1 or 0 for BF16 products with or without the
processor's own instruction; what is left out is the processor's. Each has a process of its own;
they take turns, and one runs at a time. Printed are the median times, and for each variant after
the first the median (and quartiles) over the turns of its time by that of the first in the same
turn. With one thread the time is the thread's own: what other programs take of its core does not
count.

Products say how many operations a second they are, two a weight and row. With --peak, which is what
VPDPBUSD alone gives (128 operations a cycle on Zen 4, 256 on Intel's servers, times the clock and
the threads), also how near that comes to what multipliers allow: scales and minima take them too.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import numpy as np

MATRICES = {"up": (9216, 2304), "down": (2304, 9216), "head": (65536, 2304)}
"""Rows and columns of Gemma-2-2B's matrices; of its head a quarter."""
SCALING = {
    "Q4_0": 16, "Q5_0": 16, "Q8_0": 16, "IQ4_NL": 16, "Q4_1": 24, "Q5_1": 24,
    "Q2_K": 27, "Q3_K": 18, "Q4_K": 15, "Q5_K": 15, "Q6_K": 18, "IQ4_XS": 10,
    "MXFP4": 16, "NVFP4": 24, "IQ1_S": 10, "IQ2_XXS": 10, "IQ3_XXS": 10, "IQ3_S": 10, "TQ1_0": 10,
    "TQ2_0": 10, "IQ1_M": 18, "IQ2_XS": 18, "IQ2_S": 18,
}  # fmt: skip
"""Multiplications beside the 64 VPDPBUSD that 256 columns of 16 weights and a row take: one for
each integer scale, two for each float one, three for two in a block, one for each float minimum or
two integer ones, and what a super-block takes in the end. Conversions, additions and shifts have
other ports."""
BEYOND_CACHES = 192 << 20
"""Bytes of weights that a pass goes through: as in a model, each comes from memory."""
ATTENTION = {
    "one of 16k": ([16384], 0, 1),
    "one of 16k, window 4096": ([16384], 4096, 1),
    "16 of 1k": ([1024] * 16, 0, 1),
    "one of 16k, 15 of 100": ([16384] + [100] * 15, 0, 1),
    "one of 16k, 15 of 100, window 4096": ([16384] + [100] * 15, 4096, 1),
    "prefill 256 after 8k": ([8192 + 256], 0, 256),
    "prefill 256 after 8k, window 4096": ([8192 + 256], 4096, 256),
}
"""Lengths, window, and how many of the last tokens of each are computed."""


Clock = Callable[[], float]


class Linear:
    """One type and shape, in as many copies as a pass needs."""

    def __init__(self, kernels: Any, type_name: str, rows: int, columns: int) -> None:
        from motet.weights.formats import TensorType, row_bytes

        self.kernels = kernels
        self.columns = columns
        type = TensorType[type_name]
        width = row_bytes(type, columns)
        # 0x2d2d: a small float16 wherever a scale may stand, and quants that are not all the same.
        raw = np.full((rows, width), 0x2D, np.uint8)
        copies = max(1, BEYOND_CACHES // (rows * width))
        self.matrices = [kernels.pack(raw, type, rows, columns) for _ in range(copies)]
        self.bytes = sum(m.nbytes for m in self.matrices)
        self.operations = 2 * rows * columns * copies

    def seconds(self, tokens: int, clock: Clock) -> float:
        """Of one pass."""
        x = np.random.default_rng(0).standard_normal((tokens, self.columns)).astype(np.float32)
        self.kernels.linear(x, self.matrices[0])
        start = clock()
        for matrix in self.matrices:
            self.kernels.linear(x, matrix)
        return clock() - start


def attention_of(
    kernels: Any, lengths: list[int], window: int, new: int
) -> Callable[[Clock], float]:
    """A layer of Gemma-2-2B: 8 heads, 4 of keys and values, 256 channels, float16."""
    from motet.kernels import PAGE, Rope
    from motet.kernels.interface import PagedKV

    rng = np.random.default_rng(0)
    pages = [-(-n // PAGE) for n in lengths]
    kv_pages = kernels.allocate_pages(sum(pages), 4, 256, 256, "f16")
    for array in kv_pages.arrays.values():
        array[:] = rng.standard_normal(array.shape[1:]).astype(np.float16)
    tables = np.full((len(lengths), max(pages)), -1, np.int32)
    masks = np.zeros(tables.shape, np.uint64)
    at = 0
    for row, (count, length) in enumerate(zip(pages, lengths, strict=True)):
        tables[row, :count] = np.arange(at, at + count)
        masks[row, :count] = ~np.uint64(0)
        if length % PAGE:
            masks[row, count - 1] = (1 << length % PAGE) - 1
        at += count
    rows = np.repeat(np.arange(len(lengths), dtype=np.int32), new)
    positions = np.concatenate([np.arange(n - new, n, dtype=np.int32) for n in lengths])
    slots = tables[rows, positions // PAGE].astype(np.int64) * PAGE + positions % PAGE
    q = rng.standard_normal((len(rows), 8, 256)).astype(np.float32)
    k, v = (rng.standard_normal((len(rows), 4, 256)).astype(np.float32) for _ in range(2))
    kv = PagedKV(kv_pages, kernels.block_tables(tables, masks, rows, positions, slots))
    rope = Rope(1e4 ** (-np.arange(0, 256, 2) / 256))

    def seconds(clock: Clock) -> float:
        start = clock()
        kernels.attention(q, k, v, kv, scale=1 / 16, window=window, softcap=50.0, rope=rope)
        return clock() - start

    return seconds


def work(threads: int, isa: str | None, tuning: str) -> None:
    """Answer each line of (name, arguments) with seconds; a case is kept until another comes."""
    from motet.kernels import CPU

    kernels = CPU(threads, isa)
    if tuning:
        native = kernels._native
        now = native.tuning()
        walk, *others = (list(map(int, part.split(","))) for part in tuning.split("/"))
        chains = others[0][0] if others else now.chains
        dots = bool(others[1][0]) if len(others) > 1 else now.dots
        walks = [[walk] * len(heights) for heights in now.walks]
        native.set_tuning(native.Tuning(walks, chains, dots))
    # Of one thread, without what other programs take of its core.
    clock = thread_time if threads == 1 else perf_counter
    held: tuple[Any, Any] = (None, None)
    for line in sys.stdin:
        what, *case, last = json.loads(line)
        if held[0] != case:
            held = (None, None)
            make = Linear if what == "linear" else attention_of
            held = (case, make(kernels, *case))
        if what == "linear":
            answer = [held[1].seconds(last, clock), held[1].bytes, last * held[1].operations]
        else:
            answer = [min(held[1](clock) for _ in range(last)), 0, 0]
        print(json.dumps(answer), flush=True)


class Variant:
    """A worker of one source tree and tuning."""

    def __init__(self, name: str, threads: int, isa: str | None) -> None:
        tree, _, tuning = name.partition("@")
        command = [sys.executable, __file__, "work", "--threads", str(threads), "--tuning", tuning]
        command += ["--isa", isa] if isa else []
        path = str((Path(tree) / "src").resolve())
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def ask(self, *command: Any) -> tuple[float, int, int]:
        """Seconds, bytes of weights, operations."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        seconds, size, operations = json.loads(self.process.stdout.readline())
        return seconds, size, operations


def compare(
    variants: list[Variant], turns: int, label: str, *command: Any, peak: float = 0
) -> None:
    """Print one line of the table; ``peak``: operations a second that the multipliers allow."""
    taken: list[list[float]] = [[] for _ in variants]
    size = operations = 0
    for turn in range(turns):
        for i in range(len(variants)):
            at = (turn + i) % len(variants)  # the first after a pause is slower
            seconds, size, operations = variants[at].ask(*command)
            taken[at].append(seconds)
    cells = []
    for i, times in enumerate(taken):
        ratios = sorted(b / a for a, b in zip(taken[0], times, strict=True))
        spread = f" × {median(ratios):.2f} ({ratios[len(ratios) // 4]:.2f}" if i else ""
        spread += f" to {ratios[-1 - len(ratios) // 4]:.2f})" if i else ""
        rate = f" {size / median(times) / 1e9:5.1f} GB/s" if size else ""
        rate += f" {operations / median(times) / 1e12:.3f} TOP/s" if operations else ""
        rate += f", {operations / median(times) / peak:.2f} of the bound" if peak else ""
        cells.append(f"{1e3 * median(times):8.2f} ms{rate}{spread}")
    print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["linear", "attention", "work"])
    parser.add_argument("variants", nargs="*", default=["."])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--isa")
    parser.add_argument("--types", nargs="+", default=["Q4_0", "Q8_0", "Q4_K", "F16"])
    parser.add_argument("--matrices", nargs="+", default=list(MATRICES), choices=MATRICES)
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--tuning", default="")
    parser.add_argument("--peak", type=float, default=0, help="TOP/s of VPDPBUSD alone")
    options = parser.parse_args()
    if options.what == "work":
        return work(options.threads, options.isa, options.tuning)
    variants = [Variant(name, options.threads, options.isa) for name in options.variants]
    print(f"| | {' | '.join(options.variants)} |\n|{'---|' * (len(variants) + 1)}")
    if options.what == "attention":
        for label, (lengths, window, new) in ATTENTION.items():
            compare(variants, options.turns, label, "attention", lengths, window, new, 3)
        return None
    for type in options.types:
        for matrix in options.matrices:
            for rows in options.rows:
                label = f"{type} {matrix} × {rows}"
                case = ("linear", type, *MATRICES[matrix], rows)
                scaling = SCALING.get(type)  # none of float weights
                bound = 1e12 * options.peak * 64 / (64 + scaling) if scaling else 0
                compare(variants, options.turns, label, *case, peak=bound)
    return None


if __name__ == "__main__":
    main()
