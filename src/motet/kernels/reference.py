"""Every kernel in NumPy: the definition that the native ones are tested against.

Slow and plain. It computes the same formulas, in the same number formats where these matter (int8
activations, stored keys and values), but not in the native kernels' order of summation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from motet.kernels.paged import PAGE, SCALE_GROUP, KVPool, PagedKV, groups_of
from motet.kernels.reference_experts import ExpertsReference
from motet.kernels.reference_recurrent import RecurrentReference
from motet.kernels.rope import Rope
from motet.weights.formats import TensorType, dequantize

ACTIVATION_GROUP = 32
"""Activations that share one scale when they meet quantised weights."""

FLOAT_TYPES = frozenset({TensorType.F32, TensorType.F16, TensorType.BF16})


@dataclass(frozen=True)
class ReferenceMatrix:
    """Weights as float32 ``[rows, columns]``, and the type they came from."""

    weights: np.ndarray
    type: TensorType

    @property
    def rows(self) -> int:
        return self.weights.shape[0]

    @property
    def columns(self) -> int:
        return self.weights.shape[1]

    @property
    def nbytes(self) -> int:
        return self.weights.nbytes


class Reference(RecurrentReference, ExpertsReference):
    """The kernels' interface; every method is a pure function of its arguments."""

    isa = "reference"
    threads = 1

    def pack(
        self,
        raw: np.ndarray,
        type: TensorType,
        rows: int,
        columns: int,
        packed: Callable[[int, int], None] | None = None,
    ) -> ReferenceMatrix:
        """Weights from a file's block bytes, uint8 ``[rows, row_bytes]``.

        ``packed(first, last)`` is called when rows first … last − 1 of ``raw`` are not needed.
        """
        weights = dequantize(raw, type).reshape(rows, columns)
        if packed is not None:
            packed(0, rows)
        return ReferenceMatrix(weights, type)

    def linear(self, x: np.ndarray, *weights: ReferenceMatrix) -> tuple[np.ndarray, ...]:
        """``x @ w.T`` for each matrix: float32 ``[T, w.rows]``.

        Quantised weights meet ``x`` rounded to int8 with a scale per 32 values.
        """
        rounded = None
        out = []
        for w in weights:
            source = x
            if w.type not in FLOAT_TYPES and w.columns % ACTIVATION_GROUP == 0:
                rounded = round_activations(x) if rounded is None else rounded
                source = rounded
            out.append(source @ w.weights.T)
        return tuple(out)

    def embedding(self, weight: ReferenceMatrix, ids: np.ndarray) -> np.ndarray:
        """Rows ``ids`` of the matrix, float32 ``[T, columns]``."""
        return weight.weights[ids]

    def rms_norm(self, x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
        """x / sqrt(mean(x²) + eps) · weight over the last axis (Zhang, Sennrich 2019, eq. 4).

        weight ``[n]``, or ``[G, n]`` for x ``[…, G, n]``: each group has its own.
        """
        mean = np.mean(np.square(x, dtype=np.float64), axis=-1, keepdims=True)
        return (x / np.sqrt(mean + eps) * weight).astype(np.float32)

    def layer_norm(
        self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, eps: float
    ) -> np.ndarray:
        """(x − mean) / sqrt(variance + eps) · weight + bias over the last axis (Ba et al. 2016).

        weight and bias ``[n]``, or ``[G, n]`` for x ``[…, G, n]``: each group has its own.
        """
        centred = x - np.mean(x, axis=-1, keepdims=True, dtype=np.float64)
        variance = np.mean(np.square(centred), axis=-1, keepdims=True)
        out = centred / np.sqrt(variance + eps) * weight
        return (out if bias is None else out + bias).astype(np.float32)

    def activate(self, x: np.ndarray, activation: str) -> np.ndarray:
        """ "silu", "gelu_erf", "gelu_tanh" (Hendrycks, Gimpel 2016: by its error function or its
        tanh form), "sigmoid", "tanh" or "relu2" (max(x, 0)², So et al. 2021) of every element.
        """
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
        elif activation == "relu2":
            out = np.square(np.maximum(x64, 0))
        else:
            raise ValueError(f"activation is {activation!r}")
        return out.astype(np.float32)

    def gated(self, gate: np.ndarray, up: np.ndarray, activation: str) -> np.ndarray:
        """activation(gate) · up (Shazeer 2020, arXiv 2002.05202, eq. 5)."""
        return self.activate(gate, activation) * up

    def softcap(self, x: np.ndarray, cap: float) -> np.ndarray:
        """cap · tanh(x / cap) (Gemma 2, arXiv 2408.00118, §2)."""
        return (cap * np.tanh(x.astype(np.float64) / cap)).astype(np.float32)

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

        q ``[T, heads, head_dim]``, k ``[T, kv_heads, head_dim]``, v ``[T, kv_heads, value_dim]``,
        un-rotated; returns ``[T, heads · value_dim]``. A query at position p sees its row's valid
        keys at positions ≤ p, and > p − window where window > 0.
        """
        store(kv.pool, k, v, kv.slots)
        group = q.shape[1] // kv.pool.kv_heads
        out = np.zeros((len(q), q.shape[1], kv.pool.value_dim), np.float32)
        for row in np.unique(kv.rows):
            positions, keys, values = _held(kv, row)
            keys, values = np.repeat(keys, group, axis=1), np.repeat(values, group, axis=1)
            for t in np.flatnonzero(kv.rows == row):
                at = kv.positions[t]
                seen = positions <= at
                if window:
                    seen &= positions > at - window
                scores = scale * _scores(q[t], at, keys[seen], positions[seen], rope)
                if kv.extended is not None and rope is not None:
                    e = kv.extended
                    moved = extended_positions(at, positions[seen], e.window, int(e.groups[t]))
                    grouped = scale * _scores(q[t], moved[0], keys[seen], moved[1], rope)
                    scores = np.where(at - positions[seen] < e.window, scores, grouped)
                    scores *= 1.0 if e.factors is None else e.factors[t]
                if softcap:
                    scores = softcap * np.tanh(scores / softcap)
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                weights /= weights.sum(axis=1, keepdims=True)
                out[t] = np.einsum("hk,khd->hd", weights, values[seen])
        return out.reshape(len(q), -1)


def _scores(
    query: np.ndarray, at: int, keys: np.ndarray, positions: np.ndarray, rope: Rope | None
) -> np.ndarray:
    """q·k, ``[heads, keys]``, of a query at position ``at`` and keys at theirs."""
    if rope is not None:
        query = rotate(query[None], np.array([at]), rope)[0]
        keys = rotate(keys, positions, rope)
    return np.einsum("hd,khd->hk", query, keys, dtype=np.float64)


def extended_positions(
    at: int, positions: np.ndarray, window: int, group: int
) -> tuple[int, np.ndarray]:
    """Where Self-Extend puts a query and its far keys (arXiv 2401.01325, eq. 3 and 4)."""
    return at // group + window - window // group, positions // group


def round_activations(x: np.ndarray) -> np.ndarray:
    """``x`` as the weights see it: int8 multiples of a scale in every group of 32.

    With m the value of largest magnitude, the scale is whichever of m / -128, m / 127, m / 126 and
    m / 125 leaves the least squared error (the first of equals).
    """
    groups = x.reshape(len(x), x.shape[1] // ACTIVATION_GROUP, ACTIVATION_GROUP)
    size = np.abs(groups).max(axis=2, keepdims=True)
    most = np.where(groups.max(axis=2, keepdims=True) == size, size, -size)
    best, least = np.zeros_like(groups), np.full_like(most, np.inf)
    for steps in np.array([-128, 127, 126, 125], np.float32):
        inverse = np.divide(steps, most, out=np.zeros_like(most), where=size > 0)
        rounded = np.rint(np.minimum(groups * inverse, 127)) * (most / steps)
        error = np.square(rounded - groups).sum(axis=2, keepdims=True)
        best = np.where(error < least, rounded, best)
        least = np.minimum(error, least)
    return best.reshape(x.shape)


def rotate(x: np.ndarray, positions: np.ndarray, rope: Rope) -> np.ndarray:
    """``x`` ``[T, heads, head_dim]`` with its first rotary_dim channels turned by ``positions``."""
    half = rope.rotary_dim // 2
    table = rope.scale * rope.table(int(positions.max()) + 1)[positions, :, None, :half]
    cos, sin = table[:, 0], table[:, 1]
    if rope.pairing == "neox":
        first, second = slice(0, half), slice(half, rope.rotary_dim)
    else:
        first, second = slice(0, rope.rotary_dim, 2), slice(1, rope.rotary_dim, 2)
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., first] * sin + x[..., second] * cos
    return out


def store(pool: KVPool, k: np.ndarray, v: np.ndarray, slots: np.ndarray) -> None:
    """Write keys and values into their slots in the pool's own number format."""
    page, slot = np.divmod(slots, PAGE)
    for stored, scales, x in (
        (pool.keys, pool.key_scales, k),
        (pool.values, pool.value_scales, v),
    ):
        if pool.kind == "bf16":
            bits = x.view(np.uint32)
            stored[page, slot] = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        elif scales is not None:
            width = groups_of(x.shape[2]) * SCALE_GROUP
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


def _held(kv: PagedKV, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, keys and values (float32) that a table row holds, in order of position."""
    bits = (kv.masks[row][:, None] >> np.arange(PAGE, dtype=np.uint64)) & np.uint64(1)
    entry, slot = np.nonzero(bits)
    page = kv.tables[row][entry]
    parts = []
    for stored, scales in (
        (kv.pool.keys, kv.pool.key_scales),
        (kv.pool.values, kv.pool.value_scales),
    ):
        x = stored[page, slot]
        if kv.pool.kind == "bf16":
            x = (x.astype(np.uint32) << 16).view(np.float32)
        x = x.astype(np.float32)
        if scales is not None:
            x = (
                x
                * np.repeat(scales[page, slot].astype(np.float32), SCALE_GROUP, 2)[
                    ..., : x.shape[2]
                ]
            )
        parts.append(x)
    return entry * PAGE + slot, parts[0], parts[1]


def _erf(x: np.ndarray) -> np.ndarray:
    from math import erf

    return np.vectorize(erf, otypes=[np.float64])(x)
