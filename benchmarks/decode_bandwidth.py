"""Bytes per second at which a decode's products go through a model's matrices, beside bare streams.

    python benchmarks/decode_bandwidth.py ../shared/prototypes/gemv_streams.cpp
    python benchmarks/decode_bandwidth.py PROTOTYPE --threads 1 --types Q4_0 F16 --rows 1 4

In one process, turn by turn: every product of some layers of Gemma-2-2B's shape, as a decode calls
them; the prototype's variants (a 4-bit product of one row, with so many strips side by side and a
prefetch so far ahead) and its plain read, on as many bytes. Each figure is the median over the
turns of its rate by that of the best stream in the same turn. With one thread the time is the
thread's own: what other programs take of its core does not count.
"""

import argparse
import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import numpy as np

MODEL, INNER, QUERIES, KEYS = 2304, 9216, 2048, 1024
"""Widths of Gemma-2-2B."""
BYTES = 256 << 20
"""Of weights in a pass, at least: more than caches hold."""
VARIANTS = [
    (strips, ahead)
    for strips in (1, 2, 4, 8)
    for ahead in (0, 512, 2048)
    if (strips, ahead) != (1, 512)
]
COLUMNS, STRIP = 2304, 2304 // 32 * 288
"""Of the prototype's matrix, and the bytes of 16 of its rows."""


class Layers:
    """The matrices of some layers, one type."""

    def __init__(self, kernels: Any, name: str) -> None:
        from motet.weights.formats import TensorType, row_bytes

        type = TensorType[name]

        def packed(rows: int, columns: int) -> Any:
            # A small float16 wherever a scale may stand, and quants that are not all the same.
            raw = np.full((rows, row_bytes(type, columns)), 0x2D, np.uint8)
            return kernels.pack(raw, type, rows, columns)

        self.kernels = kernels
        self.layers: list[list[list[Any]]] = []
        self.bytes = 0
        while self.bytes < BYTES:
            calls = [
                [packed(n, MODEL) for n in (QUERIES, KEYS, KEYS)],
                [packed(MODEL, QUERIES)],
                [packed(INNER, MODEL) for _ in range(2)],
                [packed(MODEL, INNER)],
            ]
            self.layers.append(calls)
            self.bytes += sum(m.nbytes for call in calls for m in call)

    def decode(self, x: dict[int, Any]) -> None:
        for calls in self.layers:
            for call in calls:
                self.kernels.linear(x[call[0].columns], *call)


class Streams:
    """The prototype, on so many bytes."""

    def __init__(self, source: Path, threads: int, size: int) -> None:
        self.rows = size // STRIP // 8 * 128
        self.bytes = self.rows // 16 * STRIP
        with tempfile.TemporaryDirectory() as folder:
            made = f"{folder}/streams.so"
            options = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
            subprocess.run(["g++", *options, str(source), "-o", made], check=True)
            self.library = ctypes.CDLL(made)
        self.library.omp_set_num_threads(threads)
        self.library.huge.restype = ctypes.c_void_p
        self.weights = ctypes.c_void_p(self.library.huge(ctypes.c_size_t(self.bytes)))
        ctypes.memset(self.weights, 0x2D, self.bytes)
        blocks = COLUMNS // 32
        arrays = [np.ones(COLUMNS, np.int8), np.ones(blocks, np.float32), np.ones(blocks, np.int32)]
        self.arrays = [*arrays, np.zeros(self.rows, np.float32), np.zeros(1 << 16, np.uint8)]
        self.pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in self.arrays]

    def multiply(self, strips: int, ahead: int) -> None:
        f = getattr(self.library, f"gemv_{strips}_{ahead}")
        f(self.weights, *self.pointers[:4], self.rows, COLUMNS)

    def read(self) -> None:
        self.library.read_all(self.weights, ctypes.c_size_t(self.bytes), self.pointers[4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prototype", type=Path)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--isa")
    parser.add_argument(
        "--types", nargs="+", default=["Q4_0", "Q8_0", "Q4_K", "Q6_K", "F16", "BF16"]
    )
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--megabytes", type=int, default=BYTES >> 20, help="that the streams read")
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before the prototype is loaded

    from motet.kernels import CPU

    kernels = CPU(options.threads, options.isa)
    streams = Streams(options.prototype, options.threads, options.megabytes << 20)
    clock = thread_time if options.threads == 1 else perf_counter

    def rate(size: int, call: Callable[[], None]) -> float:
        start = clock()
        call()
        return size / (clock() - start) / 1e9

    def of_variant(strips: int, ahead: int) -> float:
        return rate(streams.bytes, lambda: streams.multiply(strips, ahead))

    tried = [{v: of_variant(*v) for v in VARIANTS} for _ in range(options.turns)]
    of_all = {v: median(t[v] for t in tried) for v in VARIANTS}
    best = sorted(VARIANTS, key=lambda v: -of_all[v])[:2]
    cells = [f"{strips}/{ahead}: {of_all[strips, ahead]:.1f}" for strips, ahead in VARIANTS]
    print(f"streams, GB/s: {', '.join(cells)}")
    print("| | rows | GB/s | best stream | share | plain read | share |\n|" + 7 * "---|")
    for name in options.types:
        layers = Layers(kernels, name)
        for rows in options.rows:
            x = activations(rows)
            decode = partial(layers.decode, x)
            decode()
            own, stream, read = [], [], []
            for _ in range(options.turns):
                own.append(rate(layers.bytes, decode))
                stream.append(max(of_variant(*v) for v in best))
                read.append(rate(streams.bytes, streams.read))
            cells = [f"{name} | {rows} | {median(own):.1f}"]
            for other in (stream, read):
                share = median(a / b for a, b in zip(own, other, strict=True))
                cells.append(f"{median(other):.1f} | {share:.2f}")
            print(f"| {' | '.join(cells)} |", flush=True)


def activations(rows: int) -> dict[int, Any]:
    rng = np.random.default_rng(0)
    widths = (MODEL, QUERIES, INNER)
    return {n: rng.standard_normal((rows, n)).astype(np.float32) for n in widths}


if __name__ == "__main__":
    main()
