"""Layers that families are made of: each asks for its tensors, names its caches, and runs.

Arrays are touched through kernels, indexing, ``reshape``, ``copy`` and in-place arithmetic alone,
so that another device's arrays can take their place. T is the number of tokens in a micro-batch, R
of the rows wanted of it: ``wanted``, int64 ``[R]``, or None for all.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, cast

from motet.arrays import Float32, Int32, Int64
from motet.kernels.bias import PositionBias
from motet.kernels.interface import Kernels, Matrix
from motet.kernels.rope import Rope
from motet.models.config import Config, HeadsConfig
from motet.models.family import View
from motet.models.norms import Norm, NormKind, rms_norm
from motet.models.tensors import TensorReader
from motet.spec import CacheSpec, FullAttention, SlidingAttention

Temperature = Callable[[Int32], Float32]
"""From positions ``[T]`` to what queries there are multiplied by."""


class Mixer(Protocol):
    """The part of a layer in which tokens see those before them."""

    @property
    def caches(self) -> tuple[CacheSpec, ...]:
        """What it keeps of a sequence."""
        ...

    def forward(self, h: Float32, view: Any, wanted: Int64 | None) -> Float32:
        """``[T, d_model]`` to ``[R, d_model]``; caches are written for all T tokens.

        ``view``: a ``View``, or of an encoder ``Whole``.
        """
        ...


class FeedForward(Protocol):
    """The part of a layer that sees each token by itself."""

    def forward(self, h: Float32) -> Float32:
        """``[R, d_model]`` to the same."""
        ...


class Block:
    """A layer: a mixer and a feed-forward network, added to the residual one after the other.

    Each has a norm, of the kind ``norm``, before it unless ``pre_norms`` is False, and, with
    ``post_norms``, another after it; what is added is multiplied by ``scale``.
    ``ffn_norm``: the name of the norm before the second; None if that has its own.
    """

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        config: Config,
        mixer: Mixer,
        feed_forward: FeedForward | None = None,
        *,
        norm: NormKind = rms_norm,
        pre_norms: bool = True,
        post_norms: bool = False,
        scale: float = 1.0,
        ffn_norm: str | None = "ffn_norm",
    ) -> None:
        def named(name: str) -> Norm:
            return norm(t, kernels, name, config.d_model, config.norm_eps)

        self.mixer = mixer
        self.feed_forward = feed_forward
        self.caches = mixer.caches
        self._scale = scale
        self.attn_norm = named("attn_norm") if pre_norms else None
        self.post_attention_norm = named("post_attention_norm") if post_norms else None
        if feed_forward is not None:
            self.ffn_norm = named(ffn_norm) if pre_norms and ffn_norm else None
            self.post_ffw_norm = named("post_ffw_norm") if post_norms else None

    def forward(self, x: Float32, view: Any, wanted: Int64 | None = None) -> Float32:
        """The residual ``[T, d_model]``, which is overwritten, to ``[R, d_model]``."""
        h = x if self.attn_norm is None else self.attn_norm(x)
        h = self.mixer.forward(h, view, wanted)
        if self.post_attention_norm is not None:
            h = self.post_attention_norm(h)
        if wanted is not None:
            x = x[wanted]
        x += self._scaled(h)
        if self.feed_forward is None:
            return x
        h = self.feed_forward.forward(x if self.ffn_norm is None else self.ffn_norm(x))
        if self.post_ffw_norm is not None:
            h = self.post_ffw_norm(h)
        x += self._scaled(h)
        return x

    def _scaled(self, h: Float32) -> Float32:
        if self._scale != 1.0:
            h *= self._scale
        return h


class Beside:
    """Two mixers of the same input, added; the second one's cache comes after the first one's."""

    def __init__(self, first: Mixer, second: Mixer) -> None:
        self._first, self._second = first, second
        self.caches = (*first.caches, *second.caches)

    def forward(self, h: Float32, view: Any, wanted: Int64 | None) -> Float32:
        out = self._first.forward(h, view, wanted)
        out += self._second.forward(h, view, wanted)
        return out


class NoMixer:
    """A feed-forward network in the place of a mixer: in its layer no token sees another."""

    caches: tuple[CacheSpec, ...] = ()

    def __init__(self, feed_forward: FeedForward) -> None:
        self._feed_forward = feed_forward

    def forward(self, h: Float32, view: Any, wanted: Int64 | None) -> Float32:
        return self._feed_forward.forward(h if wanted is None else h[wanted])


class Attention:
    """Softmax attention over a sequence's keys and values, with grouped heads.

    ``window``: tokens that it sees, the query's own included; 0 for all. ``softcap``: scores are
    capped to ± this. ``bias``: added to scores by distance. ``qk_norms``: an RMS norm over each
    head's query and key, or "all": over those of all heads together. ``temperature``: by position,
    what queries are multiplied by. ``clamp``: q, k and v are kept within ± this, if it is not 0.
    ``fused``: whether q, k and v stand in one tensor. ``gated``: whether the rows of each head's q
    are followed by those of a gate, through whose sigmoid its output is multiplied. ``sinks``:
    whether each head has one more score, of no value. ``output``: the name of the matrix after
    them. ``cache``: which of the layer's caches is its own.
    """

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        layer: int,
        config: HeadsConfig,
        kv_heads: int,
        *,
        rope: Rope | None = None,
        window: int = 0,
        softcap: float = 0.0,
        bias: PositionBias | None = None,
        qk_norms: bool | Literal["all"] = False,
        temperature: Temperature | None = None,
        clamp: float = 0.0,
        fused: bool = False,
        gated: bool = False,
        biases: bool = False,
        sinks: bool = False,
        output: str = "attn_output",
        cache: int = 0,
    ) -> None:
        sizes = kv_heads, config.head_dim, config.value_dim
        self.caches = (SlidingAttention(*sizes, window) if window else FullAttention(*sizes),)
        self._layer, self._cache = layer, cache
        self._kernels = kernels
        self._q_shape = -1, config.n_heads, config.head_dim
        self._k_shape = -1, kv_heads, config.head_dim
        self._v_shape = -1, kv_heads, config.value_dim
        self._scale, self._window, self._softcap = config.attention_scale, window, softcap
        self._rope, self._bias, self._eps = rope, bias, config.norm_eps
        self._clamp, self._temperature = clamp, temperature
        d, heads = config.d_model, config.n_heads
        of_head = config.head_dim + config.value_dim * gated
        rows = heads * of_head, kv_heads * config.head_dim, kv_heads * config.value_dim
        self._gated = (-1, heads, of_head) if gated else None
        self.qkv, self.qkv_bias = read_qkv(t, rows, d, fused=fused, biases=biases)
        self.output = t.matrix(f"{output}.weight", d, heads * config.value_dim)
        self.output_bias = t.optional_array(f"{output}.bias", d) if biases else None
        self.sinks = t.array("attn_sinks.weight", heads) if sinks else None
        of_q, of_k = (rows[0], rows[1]) if qk_norms == "all" else (config.head_dim,) * 2
        self.q_norm = t.array("attn_q_norm.weight", of_q) if qk_norms else None
        self.k_norm = t.array("attn_k_norm.weight", of_k) if qk_norms else None
        self._normed_q, self._normed_k = (-1, of_q), (-1, of_k)

    def forward(self, h: Float32, view: View, wanted: Int64 | None) -> Float32:
        kernels = self._kernels
        q, k, v = kernels.linear(h, *self.qkv, biases=self.qkv_bias)
        gate = None
        if self._gated is not None:
            q, gate = self._apart(q.reshape(self._gated))
        if self._clamp:
            q = kernels.clamp(q, self._clamp)
            k = kernels.clamp(k, self._clamp)
            v = kernels.clamp(v, self._clamp)
        if self.q_norm is not None and self.k_norm is not None:
            q = kernels.rms_norm(q.reshape(self._normed_q), self.q_norm, self._eps)
            k = kernels.rms_norm(k.reshape(self._normed_k), self.k_norm, self._eps)
        q, k, v = q.reshape(self._q_shape), k.reshape(self._k_shape), v.reshape(self._v_shape)
        if self._temperature is not None:
            q *= self._temperature(view.positions)[:, None, None]
        h = kernels.attention(
            q,
            k,
            v,
            view.cache(self._layer, self._cache),
            scale=self._scale,
            window=self._window,
            softcap=self._softcap,
            rope=self._rope,
            bias=self._bias,
            sinks=self.sinks,
        )
        h = h if wanted is None else h[wanted]
        if gate is not None:
            h = kernels.gated(gate if wanted is None else gate[wanted], h, "sigmoid")
        return kernels.linear(h, self.output, biases=(self.output_bias,))[0]

    def _apart(self, rows: Float32) -> tuple[Float32, Float32]:
        """Queries and gates, of rows that have one after the other for each head."""
        width = self._q_shape[-1]
        q, gate = cast(Float32, rows[..., :width].copy()), cast(Float32, rows[..., width:].copy())
        return q, gate.reshape(len(gate), -1)


class GatedMLP:
    """down(activation(gate · x) ⊙ up · x) (Shazeer 2020, arXiv 2002.05202).

    ``suffix``: of its tensors' names. ``fused``: whether gate and up stand in one tensor, "up".
    """

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        config: HeadsConfig,
        activation: str,
        *,
        biases: bool = False,
        fused: bool = False,
        suffix: str = "",
    ) -> None:
        d, ff = config.d_model, config.d_ff
        self._kernels = kernels
        self._activation = activation
        if fused:
            self.gate, self.up = t.stacked(f"ffn_up{suffix}.weight", (ff, ff), d)
        else:
            self.gate = t.matrix(f"ffn_gate{suffix}.weight", ff, d)
            self.up = t.matrix(f"ffn_up{suffix}.weight", ff, d)
        self.down = t.matrix(f"ffn_down{suffix}.weight", d, ff)
        self.inner_bias = self.down_bias = ()
        if biases:
            gate, up = t.optional_array("ffn_gate.bias", ff), t.optional_array("ffn_up.bias", ff)
            self.inner_bias, self.down_bias = (gate, up), (t.optional_array("ffn_down.bias", d),)

    def forward(self, h: Float32) -> Float32:
        kernels = self._kernels
        gate, up = kernels.linear(h, self.gate, self.up, biases=self.inner_bias)
        h = kernels.gated(gate, up, self._activation)
        return kernels.linear(h, self.down, biases=self.down_bias)[0]


class MLP:
    """down(activation(up · x)), with biases where the file has them and ``biases`` allows it.

    ``suffix``: of its tensors' names.
    """

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        config: HeadsConfig,
        activation: str,
        *,
        biases: bool = False,
        suffix: str = "",
    ) -> None:
        d, ff = config.d_model, config.d_ff
        self._kernels = kernels
        self._activation = activation
        self.up = t.matrix(f"ffn_up{suffix}.weight", ff, d)
        self.down = t.matrix(f"ffn_down{suffix}.weight", d, ff)
        self.up_bias = t.optional_array("ffn_up.bias", ff) if biases else None
        self.down_bias = t.optional_array("ffn_down.bias", d) if biases else None

    def forward(self, h: Float32) -> Float32:
        kernels = self._kernels
        (h,) = kernels.linear(h, self.up, biases=(self.up_bias,))
        h = kernels.activate(h, self._activation)
        return kernels.linear(h, self.down, biases=(self.down_bias,))[0]


def read_qkv(
    t: TensorReader, rows: tuple[int, int, int], columns: int, *, fused: bool, biases: bool = True
) -> tuple[Sequence[Matrix], Sequence[Float32 | None]]:
    """The matrices of q, k and v, ``fused`` in one or in three, and the biases that there are."""
    none = None, None, None
    if not fused:
        named = [(f"attn_{name}", n) for name, n in zip("qkv", rows, strict=True)]
        matrices = [t.matrix(f"{name}.weight", n, columns) for name, n in named]
        return matrices, [t.optional_array(f"{n}.bias", r) for n, r in named] if biases else none
    matrices = t.stacked("attn_qkv.weight", rows, columns)
    bias = t.optional_array("attn_qkv.bias", sum(rows)) if biases else None
    if bias is None:
        return matrices, none
    q, k, _ = rows
    return matrices, (bias[:q], bias[q : q + k], bias[q + k :])


def contiguous(x: Float32) -> Float32:
    """Some columns of an array for kernels that read whole rows: a copy, if there are several."""
    return x if len(x) == 1 else cast(Float32, x.copy())
