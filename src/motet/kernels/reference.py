"""Every kernel in NumPy: the definition that the native ones are tested against.

Slow and plain. It computes the same formulas, in the same number formats where these matter (int8
activations, stored keys and values), but not in the native kernels' order of summation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from motet.arrays import Array, Bool, Float32, Int32, Int64, UInt8, UInt64
from motet.kernels.bias import PositionBias
from motet.kernels.host_memory import SCALE_GROUP, HostMemory, HostPages, scale_groups
from motet.kernels.interface import PagedKV, Rows
from motet.kernels.reference_quantize import QuantizeReference, rounded_to_bf16
from motet.kernels.reference_recurrent import RecurrentReference
from motet.kernels.rope import Rope
from motet.kernels.routing import Routing
from motet.kernels.sizes import PAGE
from motet.weights.formats import TensorType, dequantize

ACTIVATION_GROUP, SUPER_GROUP = 32, 256
"""Activations that share one scale when they meet quantised weights; those in super-blocks."""

FLOAT_TYPES = frozenset({TensorType.F32, TensorType.F16, TensorType.BF16})


@dataclass(frozen=True)
class ReferenceMatrix:
    """Weights as float32 ``[rows, columns]``, the type they came from, and their scale."""

    weights: Float32
    type: TensorType
    scale: float = 1.0

    @property
    def rows(self) -> int:
        return self.weights.shape[0]

    @property
    def columns(self) -> int:
        return self.weights.shape[1]

    @property
    def nbytes(self) -> int:
        return self.weights.nbytes


class Reference(QuantizeReference, RecurrentReference, HostMemory):
    """``Kernels`` in NumPy; see there for what each method takes and returns."""

    threads = 1
    arithmetic = "reference"

    def pack(
        self, raw: Rows, type: TensorType, rows: int, columns: int, scale: float = 1.0
    ) -> ReferenceMatrix:
        return ReferenceMatrix(dequantize(raw[0:rows], type).reshape(rows, columns), type, scale)

    def packed_bytes(self, type: TensorType, rows: int, columns: int) -> int:
        del type
        return 4 * rows * columns

    @property
    def layout(self) -> str:
        return "rows of float32"

    def packed_data(self, matrix: ReferenceMatrix) -> UInt8:
        return matrix.weights.reshape(-1).view(np.uint8)

    def packed_matrix(
        self, data: UInt8, type: TensorType, rows: int, columns: int, scale: float = 1.0
    ) -> ReferenceMatrix:
        return ReferenceMatrix(data.view(np.float32).reshape(rows, columns), type, scale)

    def linear(
        self, x: Float32, *weights: ReferenceMatrix, biases: Sequence[Float32 | None] = ()
    ) -> tuple[Float32, ...]:
        rounded: dict[int, Float32] = {}
        out: list[Float32] = []
        for w, bias in zip(weights, biases or [None] * len(weights), strict=True):
            source = x
            if w.type is TensorType.BF16:
                source = _floats(rounded_to_bf16(x))
            elif w.type not in FLOAT_TYPES and w.columns % ACTIVATION_GROUP == 0:
                group = SUPER_GROUP if w.type.block == SUPER_GROUP else ACTIVATION_GROUP
                if group not in rounded:
                    rounded[group] = round_activations(x, group)
                source = rounded[group]
            y = source @ np.transpose(w.weights) * np.float32(w.scale)
            out.append(y if bias is None else y + bias)
        return tuple(out)

    def embedding(self, weight: ReferenceMatrix, ids: Int32) -> Float32:
        return weight.weights[ids] * np.float32(weight.scale)

    def rms_norm(self, x: Float32, weight: Float32, eps: float) -> Float32:
        mean = np.mean(np.square(x, dtype=np.float64), axis=-1, keepdims=True)
        return (x / np.sqrt(mean + eps) * weight).astype(np.float32)

    def layer_norm(
        self,
        x: Float32,
        weight: Float32,
        bias: Float32 | None,
        eps: float,
        plus: Float32 | None = None,
    ) -> Float32:
        x = x if plus is None else x + plus
        centred = x - np.mean(x, axis=-1, keepdims=True, dtype=np.float64)
        variance = np.mean(np.square(centred), axis=-1, keepdims=True)
        out = centred / np.sqrt(variance + eps) * weight
        return (out if bias is None else out + bias).astype(np.float32)

    def activate(self, x: Float32, activation: str) -> Float32:
        x64 = x.astype(np.float64)
        if activation == "silu":
            out = x64 / (1 + np.exp(-np.maximum(x64, -700.0)))
        elif activation == "gelu_tanh":
            out = 0.5 * x64 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x64 + 0.044715 * x64**3)))
        elif activation == "gelu_erf":
            out = 0.5 * x64 * (1 + _erf(x64 / np.sqrt(2)))
        elif activation == "sigmoid":
            out = 1 / (1 + np.exp(-np.maximum(x64, -700.0)))
        elif activation == "tanh":
            out = np.tanh(x64)
        elif activation == "relu":
            out = np.maximum(x64, 0)
        elif activation == "relu2":
            out = np.square(np.maximum(x64, 0))
        else:
            raise ValueError(f"activation is {activation!r}")
        return out.astype(np.float32)

    def gated(self, gate: Float32, up: Float32, activation: str) -> Float32:
        if activation == "clamped_swiglu":
            g, u = np.minimum(gate, 7).astype(np.float64), np.clip(up, -7, 7)
            return ((u + 1) * g / (1 + np.exp(-1.702 * np.maximum(g, -400)))).astype(np.float32)
        return self.activate(gate, activation) * up

    def softcap(self, x: Float32, cap: float) -> Float32:
        return (cap * np.tanh(x.astype(np.float64) / cap)).astype(np.float32)

    def softmax(self, x: Float32) -> Float32:
        return _softmax(x.astype(np.float64)).astype(np.float32)

    def clamp(self, x: Float32, limit: float) -> Float32:
        return np.clip(x, -limit, limit)

    def head_linear(
        self, x: Float32, weights: Sequence[Any], before: Float32 | None = None
    ) -> Float32:
        first = 0 if before is None else before.shape[2]
        out = np.empty((*x.shape[:2], first + weights[0].rows), np.float32)
        if before is not None:
            out[..., :first] = before
        for head, weight in enumerate(weights):
            (out[:, head, first:],) = self.linear(np.ascontiguousarray(x[:, head]), weight)
        return out

    def route(
        self, logits: Float32, routing: Routing, bias: Float32 | None = None
    ) -> tuple[Int32, Float32]:
        scores = logits.astype(np.float64)
        if routing.scores == "softmax":
            scores = _softmax(scores)
        elif routing.scores == "sigmoid":
            scores = 1 / (1 + np.exp(-scores))
        order: Array = logits
        if bias is not None or routing.group_best > 1:
            order = scores + (0 if bias is None else bias)
        size = logits.shape[1] // routing.groups
        grouped = order.reshape(len(logits), routing.groups, size)
        best = np.sort(grouped, axis=2)[:, :, -routing.group_best :].sum(axis=2)
        taken = np.argsort(-best, axis=1, kind="stable")[:, : routing.groups_used]
        left = np.ones((len(logits), routing.groups), bool)
        np.put_along_axis(left, taken, False, axis=1)
        left = np.repeat(left, size, axis=1)
        ids = np.lexsort((-order, left), axis=1)[:, : routing.used]
        weights = np.take_along_axis(scores, ids, axis=1)
        if routing.weights == "softmax":
            weights = _softmax(weights)
        elif routing.weights == "normalised":
            weights /= weights.sum(axis=1, keepdims=True) + routing.epsilon
        return ids.astype(np.int32), (routing.scale * weights).astype(np.float32)

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
        each = np.empty((*ids.shape, down[0].rows), np.float32)
        for e in np.unique(ids):
            token, rank = np.nonzero(ids == e)
            own = [bias[e] for bias in biases]
            if gate is None:
                inner = self.activate(self.linear(x[token], up[e])[0], activation)
            else:
                gates, inner = self.linear(x[token], gate[e], up[e], biases=own[:2])
                inner = self.gated(gates, inner, activation)
            (each[token, rank],) = self.linear(inner, down[e], biases=own[2:])
        out = np.zeros((len(x), down[0].rows), np.float32)
        for rank in range(ids.shape[1]):
            out += weights[:, rank, None] * each[:, rank]
        return out

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
        pages, to = kv.pages, kv.tables
        assert isinstance(pages, HostPages)
        store(pages, k, v, to.slots)
        group = q.shape[1] // pages.kv_heads
        # Where positions do not count, they are not extended.
        extended = None if rope is None and bias is None else kv.extended
        out = np.zeros((len(q), q.shape[1], latent or pages.value_dim), np.float32)
        for row in np.unique(to.rows):
            positions, keys, values = _held(pages, to.tables[row], to.masks[row], latent)
            keys, values = np.repeat(keys, group, axis=1), np.repeat(values, group, axis=1)
            for t in np.flatnonzero(to.rows == row):
                at = to.positions[t]
                seen = positions <= at
                if window:
                    seen &= positions > at - window
                by = scale
                if extended is not None and extended.factors is not None:
                    by *= float(extended.factors[t])
                scores = _scores(q[t], at, keys[seen], positions[seen], by, rope, bias)
                if extended is not None:
                    near, size = extended.window, int(extended.groups[t])
                    moved = extended_positions(at, positions[seen], near, size)
                    grouped = _scores(q[t], moved[0], keys[seen], moved[1], by, rope, bias)
                    scores = np.where(at - positions[seen] < near, scores, grouped)
                if softcap:
                    scores = softcap * np.tanh(scores / softcap)
                most = scores.max(axis=1, keepdims=True)
                if sinks is not None:
                    most = np.maximum(most, sinks[:, None])
                weights = np.exp(scores - most)
                total = weights.sum(axis=1, keepdims=True)
                if sinks is not None:
                    total += np.exp(sinks[:, None] - most)
                out[t] = np.einsum("hk,khd->hd", weights / total, values[seen])
        return out.reshape(len(q), -1)

    def store(self, k: Float32, v: Float32, kv: PagedKV) -> None:
        assert isinstance(kv.pages, HostPages)
        store(kv.pages, k, v, kv.tables.slots)

    def cross_attention(self, q: Float32, kv: PagedKV, *, scale: float) -> Float32:
        pages, to = kv.pages, kv.tables
        assert isinstance(pages, HostPages)
        group = q.shape[1] // pages.kv_heads
        out = np.empty((len(q), q.shape[1], pages.value_dim), np.float32)
        for row in np.unique(to.rows):
            own = to.rows == row
            positions, keys, values = _held(pages, to.tables[row], to.masks[row], 0)
            keys, values = np.repeat(keys, group, axis=1), np.repeat(values, group, axis=1)
            scores = scale * np.einsum("qhd,khd->hqk", q[own], keys, dtype=np.float64)
            scores[:, to.positions[own][:, None] < positions] = -np.inf
            weights = np.exp(scores - scores.max(axis=2, keepdims=True))
            weights /= weights.sum(axis=2, keepdims=True)
            out[own] = np.einsum("hqk,khd->qhd", weights, values)
        return out.reshape(len(q), -1)

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
        group = q.shape[1] // k.shape[1]
        out = np.empty((len(q), q.shape[1], v.shape[2]), np.float32)
        bounds: list[int] = starts.tolist()
        for start, end in pairwise(bounds):
            at: Int64 = np.arange(end - start)
            queries, values = q[start:end], np.repeat(v[start:end], group, axis=1)
            keys = np.repeat(k[start:end], group, axis=1)
            if rope is not None:
                queries, keys = rotate(queries, at, rope), rotate(keys, at, rope)
            scores = scale * np.einsum("qhd,khd->hqk", queries, keys, dtype=np.float64)
            away: Int64 = at - at[:, None]
            if bias is not None:
                table = bias.table(len(at))
                scores += table[:, table.shape[1] // 2 + away]
            if softcap:
                scores = softcap * np.tanh(scores / softcap)
            if window:
                scores[:, np.abs(away) > window] = -np.inf
            weights = np.exp(scores - scores.max(axis=2, keepdims=True))
            weights /= weights.sum(axis=2, keepdims=True)
            out[start:end] = np.einsum("hqk,khd->qhd", weights, values)
        return out.reshape(len(q), -1)


def _softmax(x: Array) -> Array:
    """Over the last axis."""
    shares = np.exp(x - x.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def _scores(
    query: Float32,
    at: int,
    keys: Float32,
    positions: Int64,
    scale: float,
    rope: Rope | None,
    bias: PositionBias | None,
) -> Array:
    """scale · q·k + bias, ``[heads, keys]``, of a query at position ``at`` and keys at theirs."""
    if rope is not None:
        query = rotate(query[None], np.array([at]), rope)[0]
        keys = rotate(keys, positions, rope)
    scores = scale * np.einsum("hd,khd->hk", query, keys, dtype=np.float64)
    if bias is None:
        return scores
    table = bias.table(int(np.abs(positions - at).max()))
    return scores + table[:, table.shape[1] // 2 + positions - at]


def extended_positions(at: int, positions: Int64, window: int, group: int) -> tuple[int, Int64]:
    """Where Self-Extend puts a query and its far keys (arXiv 2401.01325, eq. 3 and 4)."""
    return at // group + window - window // group, positions // group


def round_activations(x: Float32, group: int) -> Float32:
    """``x`` as the weights see it: int8 multiples of a scale in every ``group`` of columns.

    With m the value of largest magnitude, the scale is whichever of m / -128, m / 127, m / 126 and
    m / 125 leaves the least squared error (the first of equals).
    """
    groups = x.reshape(len(x), x.shape[1] // group, group)
    size: Float32 = np.abs(groups).max(axis=2, keepdims=True)
    positive: Bool = groups.max(axis=2, keepdims=True) == size
    most: Float32 = np.where(positive, size, np.negative(size))
    best = np.zeros_like(groups)
    least = np.full_like(most, np.inf)
    for steps in np.array([-128, 127, 126, 125], np.float32):
        inverse = np.divide(steps, most, out=np.zeros_like(most), where=size > 0)
        rounded = np.rint(np.minimum(groups * inverse, 127)) * (most / steps)
        error = np.square(rounded - groups).sum(axis=2, keepdims=True)
        best = np.where(error < least, rounded, best)
        least = np.minimum(error, least)
    return best.reshape(x.shape)


def rotate(x: Float32, positions: Int64, rope: Rope) -> Float32:
    """``x`` ``[T, heads, head_dim]``, its first rotary_dim channels rotated by ``positions``."""
    half = rope.rotary_dim // 2
    table = rope.scale * rope.table(int(positions.max()) + 1)[positions, :, None, :half]
    cos, sin = table[:, 0], table[:, 1]
    if rope.pairing == "neox":
        first, second = slice(0, half), slice(half, rope.rotary_dim)
    else:
        first, second = slice(0, rope.rotary_dim, 2), slice(1, rope.rotary_dim, 2)
    out = np.array(x)
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., first] * sin + x[..., second] * cos
    return out


def store(pages: HostPages, k: Float32 | None, v: Float32 | None, slots: Int64) -> None:
    """Write keys and values into their slots in the pool's own number format."""
    page, slot = np.divmod(slots, PAGE)
    for stored, scales, x in (
        (pages.keys, pages.key_scales, k),
        (pages.values, pages.value_scales, v),
    ):
        if stored is None or x is None:
            continue
        if pages.kv_type == "bf16":
            stored[page, slot] = rounded_to_bf16(x)
        elif scales is not None:
            width = scale_groups(x.shape[2]) * SCALE_GROUP
            padded = np.pad(x, ((0, 0), (0, 0), (0, width - x.shape[2])))
            groups = padded.reshape(*x.shape[:2], -1, SCALE_GROUP)
            scale = (np.abs(groups).max(axis=3) / np.float32(127)).astype(np.float16)
            scales[page, slot] = scale
            step = scale.astype(np.float32)[..., None]
            ratio = np.divide(groups, step, out=np.zeros_like(groups), where=step > 0)
            rounded = np.clip(np.rint(ratio), -127, 127).reshape(padded.shape)
            stored[page, slot] = rounded[..., : x.shape[2]]
        else:
            stored[page, slot] = x


def _floats(bf16: Array) -> Float32:
    return (bf16.astype(np.uint32) << 16).view(np.float32)


def _held(
    pages: HostPages, table: Int32, masks: UInt64, latent: int
) -> tuple[Int64, Float32, Float32]:
    """Positions, keys and values that a row of the block table holds, in order of position."""
    bits = (masks[:, None] >> np.arange(PAGE, dtype=np.uint64)) & np.uint64(1)
    entry, slot = np.nonzero(bits)
    page = table[entry]
    keys = _opened(pages.keys[page, slot], pages.key_scales, page, slot)
    if pages.values is None:
        values = keys[..., keys.shape[2] - latent :]
    else:
        values = _opened(pages.values[page, slot], pages.value_scales, page, slot)
    return entry * PAGE + slot, keys, values


def _opened(stored: Array, scales: Array | None, page: Int32, slot: Int64) -> Float32:
    """Stored numbers, ``[n, kv_heads, channels]``, as float32."""
    if stored.dtype == np.uint16:  # bf16
        return _floats(stored)
    x = stored.astype(np.float32)
    if scales is None:
        return x
    wide = np.repeat(scales[page, slot].astype(np.float32), SCALE_GROUP, axis=2)
    return x * wide[..., : x.shape[2]]


def _erf(x: Float32) -> Float32:
    from math import erf

    return np.vectorize(erf, otypes=[np.float64])(x)
