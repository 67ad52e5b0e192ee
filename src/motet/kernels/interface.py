"""The kernels' interface: every operation on arrays that the rest of Motet uses, with its shapes.

``reference.Reference`` (NumPy) is the definition, ``cpu.CPU`` the fast implementation; a package
for another device is a third. Families, memory and state files touch arrays through it alone.
Arrays are NumPy arrays here; families use indexing, ``reshape``, ``copy`` and in-place arithmetic
on them and nothing else, so that another device's arrays can take their place.

Every implementation keeps the solo law: an output element is reduced in an order that depends on
its own sequence and position alone. T is the number of tokens in a micro-batch, S of sequences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from motet.arrays import Array, Float32, Int32, Int64, UInt8, UInt64
from motet.cached import cached_property
from motet.kernels.bias import PositionBias
from motet.kernels.interface_recurrent import RecurrentKernels
from motet.kernels.rope import Rope
from motet.kernels.routing import Routing
from motet.weights.formats import TensorType

KV_TYPES = ("f32", "f16", "bf16", "q8_0")
"""How keys and values can be stored."""


class Rows(Protocol):
    """Block bytes ``[rows, row_bytes]``: an array, or what reads a file where it is sliced."""

    def __getitem__(self, rows: slice, /) -> UInt8: ...


class Matrix(Protocol):
    """Packed weights, ``[rows, columns]``, in whatever layout a kernel reads."""

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def nbytes(self) -> int: ...


class KVPages(Protocol):
    """One layer's pages of keys and values. A page costs memory from when it is first written.

    ``value_dim`` is 0 where values are a part of the keys, and so are stored once.
    """

    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def value_dim(self) -> int: ...
    @property
    def kv_type(self) -> str: ...
    @property
    def page_bytes(self) -> int: ...
    @property
    def arrays(self) -> Mapping[str, Array]:
        """What is stored, by name, each ``[pages, PAGE, kv_heads, …]``: for ``gather_rows``."""
        ...


@dataclass(frozen=True)
class BlockTables:
    """Where one micro-batch reads and writes the caches that share a block table.

    A query at position p sees the keys of its row at positions up to p whose bit is set.
    """

    tables: Int32
    """``[S, P]``: page that holds positions 64·j … 64·j + 63, -1 where there is none."""
    masks: UInt64
    """``[S, P]``: bit p % 64 is set where position p is held or written by this micro-batch."""
    rows: Int32
    """``[T]``: row of ``tables`` that each token reads."""
    positions: Int32
    """``[T]``."""
    slots: Int64
    """``[T]``: page × PAGE + position % PAGE, where each token is written."""


@dataclass(frozen=True)
class Extended:
    """Self-Extend (Jin et al. 2024, arXiv 2401.01325, eq. 3 and 4) for a micro-batch's queries.

    A query at position q with group G sees a key at position k, q − k < window, at its distance
    q − k; and one farther away at ⌊q / G⌋ + window − ⌊window / G⌋ − ⌊k / G⌋.
    """

    window: int
    groups: Int32
    """``[T]``: positions that count as one, for far keys, to each query."""
    factors: Float32 | None
    """``[T]``: what each query is multiplied by; None for 1."""

    @cached_property
    def stages(self) -> tuple[list[int], Int32]:
        """The sizes of groups that there are, and ``[T]``: which of them each query has."""
        sizes, stage = np.unique(self.groups, return_inverse=True)
        return sizes.tolist(), stage.astype(np.int32)


class PagedKV(NamedTuple):
    """What one micro-batch reads and writes in one layer's KV cache."""

    pages: KVPages
    tables: BlockTables
    extended: Extended | None = None
    """Self-Extend, where it is on."""


class Kernels(RecurrentKernels, Protocol):
    """Arithmetic on arrays, and the arrays that caches consist of. It knows no model."""

    @property
    def threads(self) -> int:
        """How many compute."""
        ...

    @property
    def arithmetic(self) -> str:
        """A name for how numbers are rounded: where it is the same, so are all bits."""
        ...

    # Weights and dense layers.

    def pack(
        self, raw: Rows, type: TensorType, rows: int, columns: int, scale: float = 1.0
    ) -> Matrix:
        """Weights from a file's block bytes.

        ``raw`` is sliced from the first to the last of its ``rows``, each once, a few megabytes at
        a time. ``scale``: what they are multiplied by; products are, before a bias is added.
        Raises UnsupportedError for a type that cannot be read.
        """
        ...

    def packed_bytes(self, type: TensorType, rows: int, columns: int) -> int:
        """What ``pack`` would take."""
        ...

    @property
    def layout(self) -> str:
        """A name for how ``pack`` lays weights out: bytes in another mean something else."""
        ...

    def packed_data(self, matrix: Any) -> UInt8:
        """The bytes of a packed Matrix, ``[nbytes]``, to be read."""
        ...

    def packed_matrix(
        self, data: UInt8, type: TensorType, rows: int, columns: int, scale: float = 1.0
    ) -> Matrix:
        """The Matrix, packed from weights of this type, whose bytes ``data`` are; not copied.

        ``scale``: as for ``pack``; the bytes are the same for any. ``data`` begins at a multiple of
        64 bytes and may be read-only. Raises ValueError for another size than ``packed_bytes``.
        """
        ...

    def quantize(
        self, values: Float32, type: TensorType, importance: Float32 | None = None
    ) -> UInt8:
        """Block bytes ``[rows, row_bytes]`` of values ``[rows, columns]``.

        F16, BF16 and, without an importance, Q4_0 to Q8_0 are as GGML's reference rounds them. The
        others are searched for the least squared error. ``importance`` ``[columns]``: the weight of
        each column's squared errors, at least 0; types that leave nothing to choose pass it over.

        Raises UnsupportedError for a type that cannot be written or a row that is not whole blocks;
        OptionError for an importance that is none; NumericalError, with the place, for a value that
        the type cannot hold: what is not finite in blocks, what would become infinite in any.
        """
        ...

    def linear(
        self, x: Float32, *weights: Any, biases: Sequence[Float32 | None] = ()
    ) -> tuple[Float32, ...]:
        """``x @ w.T`` for each Matrix: ``[T, columns]`` to ``[T, rows]``; and its bias, ``[rows]``.

        Quantised weights meet ``x`` rounded to int8, once for all: with a scale per 32 values,
        or per 256 where the weights' type has super-blocks of so many.
        """
        ...

    def embedding(self, weight: Any, ids: Int32) -> Float32:
        """Rows ``ids`` ``[T]`` of the Matrix, ``[T, columns]``."""
        ...

    def rms_norm(self, x: Float32, weight: Float32, eps: float) -> Float32:
        """x / sqrt(mean(x²) + eps) · weight over the last axis (Zhang, Sennrich 2019, eq. 4).

        weight ``[n]``, or ``[G, n]`` for x ``[…, G, n]``: each group has its own.
        """
        ...

    def layer_norm(
        self,
        x: Float32,
        weight: Float32,
        bias: Float32 | None,
        eps: float,
        plus: Float32 | None = None,
    ) -> Float32:
        """(x − mean) / sqrt(variance + eps) · weight + bias over the last axis (Ba et al. 2016).

        ``plus``: of x's shape, what is added to x before.

        weight and bias ``[n]``, or ``[G, n]`` for x ``[…, G, n]``: each group has its own.
        """
        ...

    def activate(self, x: Float32, activation: str) -> Float32:
        """The function of every element.

        "silu", "gelu_erf", "gelu_tanh" (Hendrycks, Gimpel 2016: by its error function or its tanh
        form), "sigmoid", "tanh", "relu" (max(x, 0)) or "relu2" (its square, So et al. 2021).
        """
        ...

    def gated(self, gate: Float32, up: Float32, activation: str) -> Float32:
        """activation(gate) · up (Shazeer 2020, arXiv 2002.05202, eq. 5).

        "clamped_swiglu" (OpenAI 2025, arXiv 2508.10925, §2.2) is of both: (u + 1) · g · sigmoid(
        1.702 · g), where g is min(gate, 7) and u is up within ± 7.
        """
        ...

    def softcap(self, x: Float32, cap: float) -> Float32:
        """cap · tanh(x / cap) (Gemma 2, arXiv 2408.00118, §2)."""
        ...

    def softmax(self, x: Float32) -> Float32:
        """e^x / Σ e^x over the last axis of ``[T, n]``."""
        ...

    def clamp(self, x: Float32, limit: float) -> Float32:
        """Every element, or the nearest number within ± ``limit``."""
        ...

    def head_linear(
        self, x: Float32, weights: Sequence[Any], before: Float32 | None = None
    ) -> Float32:
        """``before[t, h]``, then ``x[t, h] @ w.T`` with head h's own Matrix w.

        x ``[T, H, columns]``, before ``[T, H, B]`` (both strided), one Matrix a head, all of one
        size. Returns ``[T, H, B + rows]``. Products are those of ``linear``.
        """
        ...

    def route(
        self, logits: Float32, routing: Routing, bias: Float32 | None = None
    ) -> tuple[Int32, Float32]:
        """The ``routing.used`` experts that each token goes to, the best first, and their weights.

        Without a bias, and where no group counts by a sum, the best are those of the largest
        logits; else of the largest score + bias ``[E]``. logits ``[T, E]``; returns ids and
        weights, ``[T, used]``.
        """
        ...

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
        """Σ over ranks, in order, of weight · down(activation(gate(x)) · up(x)) of that expert.

        Without gates, of weight · down(activation(up(x))). x ``[T, d]``, ids and weights ``[T,
        k]``, one Matrix an expert in gate, up and down; activations are those of ``gated``.
        ``biases``: of gate, up and down, each ``[experts, rows]``; or none, as without gates.
        Returns ``[T, width]``.
        """
        ...

    # Attention.

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
        """Store k and v, then softmax(scale · q·kᵀ + bias)·v over each query's own past.

        q ``[T, heads, head_dim]``, k ``[T, kv_heads, head_dim]``, v ``[T, kv_heads, value_dim]``,
        un-rotated; returns ``[T, heads · value_dim]``. A query at position p sees its row's valid
        keys at positions ≤ p, and > p − window where window > 0. ``bias`` is added to scaled scores
        by key − query; with Self-Extend, to a far key's by its grouped distance. ``softcap`` > 0
        caps the sum. With v None and pages that store no values, a key's last ``latent`` channels,
        which are not rotated, are its value (DeepSeek-AI 2024, arXiv 2405.04434, §2.1.2: the
        absorbed form). With k and v None nothing is stored: all that is seen has been. ``sinks``
        ``[heads]``: each head's softmax has one more score, whose weight counts and goes to nothing
        (Xiao et al. 2023, arXiv 2309.17453, eq. 2, with a learned one). Raises NumericalError if a
        key or value is not a finite number of the cache's type.
        """
        ...

    def store(self, k: Float32, v: Float32, kv: PagedKV) -> None:
        """Store k and v, as ``attention`` does, and with its error, to be read later."""
        ...

    def cross_attention(self, q: Float32, kv: PagedKV, *, scale: float) -> Float32:
        """softmax(scale · q·kᵀ)·v over keys and values that were stored before.

        q ``[T, heads, head_dim]``; returns ``[T, heads · value_dim]``. A query sees its row's keys
        at positions up to that which the block tables give for it; nothing is written.
        """
        ...

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
        """softmax(scale · q·kᵀ)·v over a whole sequence, before and after the query.

        Sequence s is rows ``starts[s]:starts[s + 1]``, its first token at position 0; ``starts``
        ``[S + 1]``, none empty. q ``[T, heads, head_dim]``, k ``[T, kv_heads, head_dim]``, v ``[T,
        kv_heads, value_dim]``, un-rotated; returns ``[T, heads · value_dim]``. ``window`` > 0: keys
        farther than that are not seen. ``bias`` is added to scaled scores by key − query.
        Nothing is stored, and keys and values are not rounded.
        """
        ...

    def page_bytes(self, kv_heads: int, head_dim: int, value_dim: int, kv_type: str) -> int:
        """What a page of one layer takes."""
        ...

    def allocate_pages(
        self, pages: int, kv_heads: int, head_dim: int, value_dim: int, kv_type: str
    ) -> KVPages:
        """Address space for ``pages`` pages; CapacityError where there is not so much."""
        ...

    def allocate_states(self, slots: int, shape: tuple[int, ...]) -> Float32:
        """Address space for ``slots`` states, ``[slots, *shape]`` of zeros; CapacityError."""
        ...

    def discard(self, array: Array, rows: Int64) -> None:
        """Give memory of a cache, by one of its arrays, back to the system; it then reads as 0.

        ``rows`` ``[n]``: the pages (of states: the slots) to give up, in any order.
        They hold nothing from then on, and cost memory again when they are written. What lies at
        their edges, in a page of the system that others use too, stays as it is.
        """
        ...

    def block_tables(
        self, tables: Int32, masks: UInt64, rows: Int32, positions: Int32, slots: Int64
    ) -> BlockTables:
        """What the layers of a micro-batch that share a block table are given, checked once."""
        ...

    def copy_pages(self, pages: KVPages, source: Int64, target: Int64) -> None:
        """Copy each page of ``source`` over its partner in ``target``."""
        ...

    def copy_tokens(self, pages: KVPages, source: Int64, target: Int64) -> None:
        """Copy keys and values from slots to other slots."""
        ...

    def gather_rows(self, array: Array, slots: Int64) -> Array:
        """The rows in ``slots``, contiguous ``[n, …]``, in host memory.

        ``array``: ``[pages, rows of a page, …]``, one of ``KVPages.arrays`` or a view of states.
        """
        ...

    def scatter_rows(self, array: Array, slots: Int64, rows: Array) -> None:
        """Put ``rows`` ``[n, …]`` into ``slots``; the reverse of ``gather_rows``."""
        ...
