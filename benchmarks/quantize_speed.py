"""Quantising: values a second and errors beside GGML's own, in one run, on the same threads.

    python benchmarks/quantize_speed.py speed --ggml DIRECTORY [--threads 2]
    python benchmarks/quantize_speed.py errors --ggml DIRECTORY [MODEL.gguf …]

DIRECTORY holds libggml-base.so, as a build of llama.cpp or llama-cpp-python does. Speed is that of
one matrix of Gemma-2-2B; the two take turns, and the best of the turns counts. Errors are
root-mean-square ones, of random and of models' weights, plain and by an importance,
and, as the ratio of the two, errors weighted by the squares of the values too.
"""

import argparse
import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from motet.kernels import CPU
from motet.kernels.quantizing import FLOATS, QUANTIZED_TYPES
from motet.weights.formats import TensorType, dequantize, row_bytes
from motet.weights.gguf import GGUFFile

ROWS, COLUMNS = 9216, 2304
TYPES = sorted(QUANTIZED_TYPES - {TensorType.F32})
IMPORTANT = [t for t in TYPES if t.name not in ("F16", "BF16", "Q8_0")]
"""Types for which an importance matters."""

Quantize = Callable[[np.ndarray, TensorType, "np.ndarray | None"], np.ndarray]


class _Parameters(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("memory", ctypes.c_void_p), ("bare", ctypes.c_bool))


class Ggml:
    """ggml_quantize_chunk, on threads as llama-quantize uses it: rows shared out among them."""

    def __init__(self, directory: str, threads: int) -> None:
        self._library: Any = ctypes.CDLL(str(Path(directory, "libggml-base.so")))
        self._library.ggml_init.argtypes = [_Parameters]
        self._library.ggml_init.restype = ctypes.c_void_p
        self._library.ggml_init(_Parameters(1024, None, False))
        chunk = self._library.ggml_quantize_chunk
        where, count = ctypes.c_void_p, ctypes.c_int64
        chunk.argtypes = [ctypes.c_int, where, where, count, count, count, where]
        chunk.restype = ctypes.c_size_t
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)

    def __call__(
        self, values: np.ndarray, type: TensorType, importance: np.ndarray | None
    ) -> np.ndarray:
        rows, columns = values.shape
        out = np.empty((rows, row_bytes(type, columns)), np.uint8)
        weights = None if importance is None else importance.ctypes.data
        step = max(1, min(-(-rows // self._threads), 32 * 512 // columns + 1))

        def part(first: int) -> None:
            count = min(step, rows - first)
            at = values.ctypes.data, out.ctypes.data, first * columns, count, columns, weights
            self._library.ggml_quantize_chunk(int(type), *at)

        list(self._pool.map(part, range(0, rows, step)))
        return out


def speed(ours: Quantize, theirs: Quantize, threads: int, turns: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((ROWS, COLUMNS), np.float32) * np.float32(0.02)
    importance = rng.gamma(0.7, 1, COLUMNS).astype(np.float32)
    print(f"Mvalues/s of {ROWS} × {COLUMNS} on {threads} threads; on the right by importance\n")
    print("| Type | Motet | GGML | | Motet | GGML | |")
    print("|---|---|---|---|---|---|---|")
    for type in TYPES:
        cells: list[str] = []
        for weights in (None, importance) if type in IMPORTANT else (None,):
            best = [np.inf, np.inf]
            for turn in range(turns):
                for who, quantize in enumerate((ours, theirs)):
                    if who and turn and best[1] > 2:
                        continue  # once is enough for what takes seconds
                    start = perf_counter()
                    quantize(values, type, weights)
                    best[who] = min(best[who], perf_counter() - start)
            rates = [values.size / t / 1e6 for t in best]
            cells += [f"{rates[0]:.0f}", f"{rates[1]:.1f}", f"{rates[0] / rates[1]:.1f} ×"]
        print(f"| {type.name} | {' | '.join(cells + [''] * (6 - len(cells)))} |", flush=True)


def inputs(models: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(7)
    scale = np.float32(0.02)
    yield "normal", rng.standard_normal((64, 1024)).astype(np.float32) * scale
    yield "Student t, 3", rng.standard_t(3, (64, 1024)).astype(np.float32) * scale
    for path in models:
        with GGUFFile.open(path) as file:
            parts = [
                dequantize(file.read_rows(name, 0, tensor.rows), tensor.type).ravel()
                for name, tensor in file.tensors.items()
                if len(tensor.shape) == 2
            ]
        whole = np.concatenate(parts)
        rows = min(len(whole) // 1024, 128)
        yield Path(path).stem, whole[: rows * 1024].reshape(rows, 1024)


def ratio(pair: list[float]) -> float:
    return 1.0 if pair[0] == pair[1] else pair[0] / pair[1]


def errors(ours: Quantize, theirs: Quantize, models: list[str]) -> None:
    gamma = np.random.default_rng(3).gamma(0.7, 1, 1024)
    importance = gamma.astype(np.float32) + np.float32(1e-3)
    print("| Type | Values | Importance | Motet | GGML | ratio | ratio by x² |")
    print("|---|---|---|---|---|---|---|")
    for type in [t for t in TYPES if t not in FLOATS]:
        for name, values in inputs(models):
            for weights in (None, importance) if type in IMPORTANT else (None,):
                weight = 1.0 if weights is None else weights / weights.mean(dtype=np.float64)
                plain: list[float] = []
                squares: list[float] = []
                for quantize in (ours, theirs):
                    got = dequantize(quantize(values, type, weights), type).reshape(values.shape)
                    squared = weight * np.square(got - values, dtype=np.float64)
                    plain.append(float(np.sqrt(squared.mean())))
                    squares.append(float(np.sqrt((squared * np.square(values)).mean())))
                print(
                    f"| {type.name} | {name} | {'no' if weights is None else 'yes'} "
                    f"| {plain[0]:.4e} | {plain[1]:.4e} | {ratio(plain):.4f} "
                    f"| {ratio(squares):.3f} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("speed", "errors"))
    parser.add_argument("models", nargs="*")
    parser.add_argument("--ggml", required=True, metavar="DIRECTORY")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_intermixed_args()
    ours = CPU(given.threads).quantize
    theirs = Ggml(given.ggml, given.threads)
    if given.what == "speed":
        speed(ours, theirs, given.threads, given.turns)
    else:
        errors(ours, theirs, given.models)


if __name__ == "__main__":
    main()
