"""The native kernels: one compiled module for each instruction set, the best one at run time.

A method's definition is its namesake in ``reference.Reference``. Every output element is computed
in an order that depends on its own row (token, sequence) alone, so that results are the same, bit
for bit, for any number of rows and threads.
"""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from motet.errors import NumericalError, OptionError, UnsupportedError
from motet.kernels import _cpu
from motet.kernels.cpu_experts import ACTIVATIONS, ExpertsCPU
from motet.kernels.cpu_recurrent import RecurrentCPU
from motet.kernels.paged import KINDS, KVPool, PagedKV
from motet.kernels.rope import Rope, distances
from motet.weights.formats import TensorType, dequantize

_PACKED = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS"
PACKED_TYPES = frozenset(TensorType[name] for name in _PACKED.split(" "))
"""Types that have a packed layout of their own; the others are widened to F32 at load."""

_PACK_BYTES = 16 << 20
"""Bytes of a file that are packed between two looks at Ctrl-C and two releases."""


def default_threads() -> int:
    """MOTET_THREADS, or the cores this process may use."""
    value = os.environ.get("MOTET_THREADS")
    if value is None:
        return len(os.sched_getaffinity(0))
    if not value.isdigit() or int(value) < 1:
        raise OptionError(f"MOTET_THREADS is {value!r}", hint="give a whole number from 1")
    return int(value)


def choose_isa(isa: str | None = None) -> str:
    """``isa``, or MOTET_ISA, or the best instruction set of this machine."""
    supported = _cpu.supported()
    wanted = isa or os.environ.get("MOTET_ISA")
    if wanted and wanted not in supported:
        source = "isa" if isa else "MOTET_ISA"
        raise OptionError(
            f"{source} is {wanted!r}, which is not an instruction set of this machine",
            hint=f"use one of {', '.join(supported)}",
        )
    return wanted or supported[0]


class CPU(RecurrentCPU, ExpertsCPU):
    """Kernels on ``threads`` threads of this machine's processor.

    ``threads`` defaults to MOTET_THREADS or the cores this process may use, ``isa`` to MOTET_ISA or
    the best that the processor has ("amx", "avx512", "avx2", "baseline").
    """

    def __init__(self, threads: int | None = None, isa: str | None = None) -> None:
        self.threads = default_threads() if threads is None else threads
        if self.threads < 1:
            raise OptionError(f"threads is {threads}", hint="give a whole number from 1")
        self.isa = choose_isa(isa)
        self._native: Any = import_module(f"motet.kernels._{self.isa}")
        self._arena = self._native.Arena()
        self._pool = self._native.ThreadPool(self.threads)
        self._pages: WeakKeyDictionary[KVPool, Any] = WeakKeyDictionary()

    def pack(
        self,
        raw: np.ndarray,
        type: TensorType,
        rows: int,
        columns: int,
        packed: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Weights from a file's block bytes, uint8 ``[rows, row_bytes]``, as a Matrix.

        ``packed(first, last)`` is called when rows first … last − 1 of ``raw`` are not needed any
        more, every few megabytes: to release memory or to show progress.
        """
        if type not in PACKED_TYPES:
            try:
                values = dequantize(raw, type)
            except NotImplementedError as error:
                raise UnsupportedError(f"weights of type {type.name} can't be read") from error
            raw = np.ascontiguousarray(values, np.float32).reshape(rows, columns).view(np.uint8)
            type = TensorType.F32
        matrix = self._native.Matrix(self._arena, int(type), rows, columns)
        step = max(16, _PACK_BYTES // max(1, raw.shape[1]) // 16 * 16)
        for first in range(0, rows, step):
            last = min(rows, first + step)
            self._native.pack(self._pool, matrix, raw[first:last], first)
            if packed is not None:
                packed(first, last)
        return matrix

    def linear(self, x: np.ndarray, *weights: Any) -> tuple[np.ndarray, ...]:
        """``x @ w.T`` for each matrix: float32 ``[T, w.rows]``; ``x`` is rounded to int8 once."""
        out = [np.empty((len(x), w.rows), np.float32) for w in weights]
        self._native.linear(self._pool, x, weights, out)
        return tuple(out)

    def embedding(self, weight: Any, ids: np.ndarray) -> np.ndarray:
        """Rows ``ids`` (int32) of the matrix, float32 ``[T, columns]``."""
        out = np.empty((len(ids), weight.columns), np.float32)
        self._native.embedding(self._pool, weight, ids, out)
        return out

    def rms_norm(self, x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
        """x / sqrt(mean(x²) + eps) · weight over the last axis; weight ``[n]`` or ``[G, n]``."""
        out = np.empty_like(x)
        self._native.rms_norm(self._pool, x, weight, eps, out)
        return out

    def layer_norm(
        self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, eps: float
    ) -> np.ndarray:
        """(x − mean) / sqrt(variance + eps) · weight + bias over the last axis.

        weight and bias are ``[n]``, or ``[G, n]`` for x ``[…, G, n]``.
        """
        out = np.empty_like(x)
        self._native.layer_norm(self._pool, x, weight, bias, eps, out)
        return out

    def activate(self, x: np.ndarray, activation: str) -> np.ndarray:
        """ "silu", "gelu_tanh", "gelu_erf", "sigmoid", "tanh" or "relu2" of every element."""
        out = np.empty_like(x)
        self._native.activate(self._pool, ACTIVATIONS[activation], x, None, out)
        return out

    def gated(self, gate: np.ndarray, up: np.ndarray, activation: str) -> np.ndarray:
        """activation(gate) · up."""
        out = np.empty_like(gate)
        self._native.activate(self._pool, ACTIVATIONS[activation], gate, up, out)
        return out

    def softcap(self, x: np.ndarray, cap: float) -> np.ndarray:
        """cap · tanh(x / cap)."""
        out = np.empty_like(x)
        self._native.softcap(self._pool, x, cap, out)
        return out

    def block_tables(
        self,
        tables: np.ndarray,
        masks: np.ndarray,
        rows: np.ndarray,
        positions: np.ndarray,
        slots: np.ndarray,
    ) -> Any:
        """``PagedKV.blocks``: the tables of a micro-batch, checked once for all layers of a group.

        The arguments are ``PagedKV``'s of the same names. They are copied as far as the tokens
        see, and may change afterwards. Raises ValueError if a token lies beyond the tables.
        """
        return self._native.block_tables(tables, masks, rows, positions, slots)

    def _pages_of(self, pool: KVPool) -> Any:
        pages = self._pages.get(pool)
        if pages is None:
            pages = self._native.KVPages(
                pool.buffer, pool.kv_heads, pool.head_dim, pool.value_dim, KINDS[pool.kind]
            )
            self._pages[pool] = pages
        return pages

    def attention(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        kv: PagedKV,
        *,
        scale: float,
        window: int = 0,
        softcap: float = 0.0,
        rope: Rope | None = None,
    ) -> np.ndarray:
        """Store k and v, then softmax(scale · q·kᵀ)·v over each query's own past.

        Raises NumericalError if a key or value is not a finite number of the pool's kind.
        """
        native = self._native
        tables = kv.blocks
        if tables is None:
            tables = self.block_tables(kv.tables, kv.masks, kv.rows, kv.positions, kv.slots)
        rotary, extend = None, None
        if rope is not None:
            extended = kv.extended
            table = rope.table(distances(tables.furthest, kv.positions, window, extended))
            rotary = native.Rotary(table, rope.places, rope.pairing == "normal", rope.scale)
            if extended is not None:
                groups, stage = extended.stages
                far = [(group, rope.grouped_places(group)) for group in groups]
                extend = native.SelfExtend(extended.window, far, stage, extended.factors)
        out = np.empty((len(q), q.shape[1] * v.shape[2]), np.float32)
        fine = native.attention(
            self._pool,
            q,
            k,
            v,
            self._pages_of(kv.pool),
            tables,
            rotary,
            extend,
            scale,
            window,
            softcap,
            out,
        )
        if not fine:
            raise NumericalError(
                f"a key or value is beyond the range of {kv.pool.kind}, or not a number",
                hint="use kv_type='f32'" if kv.pool.kind != "f32" else "the weights may be damaged",
            )
        return out

    def read_bandwidth(self, megabytes: int = 1024, repeats: int = 3) -> float:
        """GB/s at which all threads together read memory: the best of ``repeats`` passes."""
        from time import perf_counter

        data = np.ones(megabytes << 20, np.uint8)
        best = float("inf")
        for _ in range(repeats):
            start = perf_counter()
            self._native.read_all(self._pool, data)
            best = min(best, perf_counter() - start)
        return data.nbytes / best / 1e9
