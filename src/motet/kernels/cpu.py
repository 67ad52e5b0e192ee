"""The native kernels: one compiled module for each instruction set, the best one at run time.

What a method takes and returns stands in ``interface.Kernels``. Every output element is computed in
an order that depends on its own row (token, sequence) alone, so that results are the same, bit for
bit, for any number of rows and threads.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from motet.arrays import Float32, Int32, Int64, UInt8, UInt64
from motet.errors import NumericalError
from motet.kernels.bias import PositionBias
from motet.kernels.choosing import (
    checked_threads,
    choose_isa,
    default_threads,
    thread_processors,
    tune,
)
from motet.kernels.cpu_recurrent import CPURecurrent
from motet.kernels.cpu_weights import CPUWeights
from motet.kernels.host_memory import HostMemory, HostPages
from motet.kernels.interface import KV_TYPES, BlockTables, Extended, PagedKV
from motet.kernels.outputs import empty
from motet.kernels.quantizing import check_quantized, error_weights, refuse_value, refused_bits
from motet.kernels.rope import Rope
from motet.kernels.routing import SCORES, WEIGHTS, Routing
from motet.kernels.sizes import PAGE
from motet.weights.formats import TensorType

_log = logging.getLogger("motet")

_ACTIVATIONS = {
    "silu": 0,
    "gelu_tanh": 1,
    "gelu_erf": 2,
    "sigmoid": 3,
    "tanh": 4,
    "relu2": 5,
    "relu": 6,
    "clamped_swiglu": 7,
}
"""The number by which the native kernels know each."""
_FUSED = ("avx2", "avx512", "amx", "emulated", "neon", "dotprod", "i8mm")
"""Instruction sets on which kernels agree bit for bit."""
ROUNDS_AS = "motet 0.1.0 (2)"
"""The first version whose kernels round as these do, whatever Motet's version is now; in brackets
which of several, where it had them before it was released.

State files say it, and from those of another arithmetic prompts can't go on. To be raised with any
change to a kernel that changes a bit of a result; then tests/state/test_before.py fails, and needs
files of the new one."""


class CPU(CPUWeights, CPURecurrent, HostMemory):
    """Kernels on ``threads`` threads of this machine's processor.

    ``threads`` defaults to MOTET_THREADS or the cores that this process can keep busy
    (``machine.usable_cores``), ``isa`` to MOTET_ISA or the best that the processor has ("amx",
    "avx512", "avx2", "baseline"). Where the system does not start so many threads, those that it
    started compute, and the log "motet" says so. It may be used after a fork, in the parent and in
    the child. Raises OptionError for what cannot be.
    """

    def __init__(self, threads: int | None = None, isa: str | None = None) -> None:
        wanted = default_threads() if threads is None else checked_threads(threads)
        self.isa = choose_isa(isa)
        self._native: Any = import_module(f"motet.kernels._{self.isa}")
        self._arena = self._native.Arena()
        tune(self._native, self.isa)
        self._pool = self._native.ThreadPool(wanted, thread_processors())
        self.threads: int = self._pool.threads
        if self.threads < wanted:
            _log.warning(
                "only %d of %d threads could be started: the system allows no more (see ulimit -u,"
                " ulimit -v and the limits of control groups)",
                self.threads,
                wanted,
            )
        self._pages: WeakKeyDictionary[HostPages, Any] = WeakKeyDictionary()

    @property
    def arithmetic(self) -> str:
        return f"{ROUNDS_AS}, {'fused' if self.isa in _FUSED else self.isa}"

    @property
    def layout(self) -> str:
        return f"{ROUNDS_AS}, {self.packs_as}"

    def quantize(
        self, values: Float32, type: TensorType, importance: Float32 | None = None
    ) -> UInt8:
        width = check_quantized(type, values.shape[1], importance)
        values = np.ascontiguousarray(values)
        refused = refused_bits(type)
        if refused is not None:
            wrong = self._native.first_between(self._pool, values, *refused)
            if wrong >= 0:
                refuse_value(values, wrong, type)
        out = np.empty((len(values), width), np.uint8)
        weights = error_weights(importance, type)
        self._native.quantize(self._pool, int(type), values, weights, out)
        return out

    def linear(
        self, x: Float32, *weights: Any, biases: Sequence[Float32 | None] = ()
    ) -> tuple[Float32, ...]:
        if len(weights) == 1:  # in most calls, of which a small step has hundreds
            out = (empty(self._native, (len(x), weights[0].rows)),)
        else:
            out = tuple([empty(self._native, (len(x), w.rows)) for w in weights])
        self._native.linear(self._pool, x, weights, biases, out)
        return out

    def embedding(self, weight: Any, ids: Int32) -> Float32:
        out = empty(self._native, (len(ids), weight.columns))
        self._native.embedding(self._pool, weight, ids, out)
        return out

    def rms_norm(self, x: Float32, weight: Float32, eps: float) -> Float32:
        out = empty(self._native, x.shape)
        self._native.rms_norm(self._pool, x, weight, eps, out)
        return out

    def layer_norm(
        self,
        x: Float32,
        weight: Float32,
        bias: Float32 | None,
        eps: float,
        plus: Float32 | None = None,
    ) -> Float32:
        out = empty(self._native, x.shape)
        self._native.layer_norm(self._pool, x, weight, bias, eps, plus, out)
        return out

    def activate(self, x: Float32, activation: str) -> Float32:
        out = empty(self._native, x.shape)
        self._native.activate(self._pool, _ACTIVATIONS[activation], x, None, out)
        return out

    def gated(self, gate: Float32, up: Float32, activation: str) -> Float32:
        out = empty(self._native, gate.shape)
        self._native.activate(self._pool, _ACTIVATIONS[activation], gate, up, out)
        return out

    def softcap(self, x: Float32, cap: float) -> Float32:
        out = empty(self._native, x.shape)
        self._native.softcap(self._pool, x, cap, out)
        return out

    def clamp(self, x: Float32, limit: float) -> Float32:
        return np.clip(x, -limit, limit)

    def attention(
        self,
        q: Float32,
        k: Float32 | None,
        v: Float32 | None,
        kv: PagedKV,
        *,
        scale: float,
        window: int = 0,
        softcap: float = 0.0,
        rope: Rope | None = None,
        bias: PositionBias | None = None,
        latent: int = 0,
        sinks: Float32 | None = None,
    ) -> Float32:
        pages, tables, native = kv.pages, kv.tables, self._native
        assert isinstance(pages, HostPages) and isinstance(tables, NativeBlockTables)
        rotary, extend, biases = None, None, None
        if rope is not None or bias is not None:
            extended = kv.extended
            count = rope_distances(tables.native.furthest, tables.positions, window, extended)
            if rope is not None:
                turns, pairs = rope.table(count), rope.pairing == "normal"
                rotary = native.Rotary(turns, rope.places, pairs, rope.scale)
            if bias is not None:
                biases = bias.table(count)
            if extended is not None:
                groups, stage = extended.stages
                places_of = unrotated_places if rope is None else rope.grouped_places
                far = [(group, places_of(group)) for group in groups]
                extend = native.SelfExtend(extended.window, far, stage, extended.factors)
        out = empty(self._native, (len(q), q.shape[1] * (latent or pages.value_dim)))
        fine = native.attention(
            self._pool,
            q,
            k,
            v,
            self._pages_of(pages),
            tables.native,
            rotary,
            extend,
            scale,
            window,
            softcap,
            biases,
            latent,
            sinks,
            out,
        )
        _require_stored(fine, pages)
        return out

    def store(self, k: Float32, v: Float32, kv: PagedKV) -> None:
        pages, tables = kv.pages, kv.tables
        assert isinstance(pages, HostPages) and isinstance(tables, NativeBlockTables)
        fine = self._native.store(self._pool, k, v, self._pages_of(pages), tables.native)
        _require_stored(fine, pages)

    def cross_attention(self, q: Float32, kv: PagedKV, *, scale: float) -> Float32:
        pages, tables = kv.pages, kv.tables
        assert isinstance(pages, HostPages) and isinstance(tables, NativeBlockTables)
        out = empty(self._native, (len(q), q.shape[1] * pages.value_dim))
        native = self._pages_of(pages)
        self._native.cross_attention(self._pool, q, native, tables.native, scale, out)
        return out

    def encoder_attention(
        self,
        q: Float32,
        k: Float32,
        v: Float32,
        starts: Int32,
        *,
        scale: float,
        window: int = 0,
        softcap: float = 0.0,
        rope: Rope | None = None,
        bias: PositionBias | None = None,
    ) -> Float32:
        longest = int(np.diff(starts).max())
        rotary = rope and self._native.Rotary(
            rope.table(longest), rope.places, rope.pairing == "normal", rope.scale
        )
        table = bias and bias.table(longest)
        out = empty(self._native, (len(q), q.shape[1] * v.shape[2]))
        self._native.encoder_attention(
            self._pool, q, k, v, starts, rotary, table, scale, window, softcap, out
        )
        return out

    def softmax(self, x: Float32) -> Float32:
        out = empty(self._native, x.shape)
        self._native.softmax(self._pool, x, out)
        return out

    def head_linear(
        self, x: Float32, weights: Sequence[Any], before: Float32 | None = None
    ) -> Float32:
        width = weights[0].rows + (0 if before is None else before.shape[2])
        out = empty(self._native, (*x.shape[:2], width))
        self._native.head_linear(self._pool, x, weights, before, out)
        return out

    def route(
        self, logits: Float32, routing: Routing, bias: Float32 | None = None
    ) -> tuple[Int32, Float32]:
        shape = (len(logits), routing.used)
        ids, weights = np.empty(shape, np.int32), np.empty(shape, np.float32)
        self._native.route(
            self._pool,
            logits,
            bias,
            SCORES.index(routing.scores),
            routing.groups,
            routing.groups_used,
            routing.group_best,
            WEIGHTS.index(routing.weights),
            routing.epsilon,
            routing.scale,
            ids,
            weights,
        )
        return ids, weights

    def experts(
        self,
        x: Float32,
        ids: Int32,
        weights: Float32,
        gate: Sequence[Any] | None,
        up: Sequence[Any],
        down: Sequence[Any],
        activation: str,
        biases: Sequence[Float32] = (),
    ) -> Float32:
        out = empty(self._native, (len(x), down[0].rows))
        act = _ACTIVATIONS[activation]
        self._native.experts(self._pool, x, ids, weights, gate, up, down, act, biases, out)
        return out

    def block_tables(
        self, tables: Int32, masks: UInt64, rows: Int32, positions: Int32, slots: Int64
    ) -> "NativeBlockTables":
        """Raises ValueError if a token lies beyond the tables."""
        native = self._native.block_tables(tables, masks, rows, positions, slots)
        return NativeBlockTables(tables, masks, rows, positions, slots, native)

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

    def _pages_of(self, pages: HostPages) -> Any:
        """The pages as native kernels know them."""
        native = self._pages.get(pages)
        if native is None:
            native = self._native.KVPages(
                pages.buffer,
                pages.kv_heads,
                pages.head_dim,
                pages.value_dim,
                KV_TYPES.index(pages.kv_type),
            )
            self._pages[pages] = native
        return native


@dataclass(frozen=True)
class NativeBlockTables(BlockTables):
    """With what the native kernels read of them: a copy of the blocks that its tokens see."""

    native: Any


def _require_stored(fine: bool, pages: HostPages) -> None:
    """Raise NumericalError unless all keys and values were ``fine``."""
    if not fine:
        raise NumericalError(
            f"a key or value is beyond the range of {pages.kv_type}, or not a number",
            hint="use kv_type='f32'" if pages.kv_type != "f32" else "the weights may be damaged",
        )


def unrotated_places(group: int) -> Float32:
    """``Rope.grouped_places`` of a head of which no channel is rotated."""
    return np.empty((group // math.gcd(group, PAGE), 0, 2, PAGE), np.float32)


def rope_distances(
    furthest: int, positions: Int32, window: int = 0, extended: Extended | None = None
) -> int:
    """Entries of a rope table, or distances of a bias, that queries at ``positions`` need.

    ``furthest`` is the greatest of ``positions``. A query is rotated by its distance from the start
    of a page with a key that it sees: the key's distance, which a sliding window or Self-Extend's
    window of near keys bounds, and at most PAGE − 1 more. From a page of far keys it is counted in
    groups (Jin et al. 2024, arXiv 2401.01325, eq. 4).
    """
    most = furthest
    if window:
        most = min(most, window + PAGE - 2)
    if extended is not None:
        most = min(most, extended.window + PAGE - 2)
        far = positions >= extended.window
        if far.any():
            group = extended.groups[far]
            shift = extended.window - extended.window // group
            most = max(most, int((positions[far] // group + shift).max()))
    return most + 1
