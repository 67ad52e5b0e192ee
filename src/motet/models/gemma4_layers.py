"""Layers of Gemma 4: attention with a norm on values too, experts beside an MLP, a last scale."""

import math
from typing import Any

from motet.arrays import Float32, Int64
from motet.kernels.interface import Kernels
from motet.kernels.rope import Rope
from motet.kernels.routing import Routing
from motet.models.config import Config, HeadsConfig
from motet.models.experts import gates_and_ups
from motet.models.family import View
from motet.models.layers import Block, FeedForward, Mixer
from motet.models.norms import Norm, rms_norm
from motet.models.per_layer_embeddings import PerLayerInput
from motet.models.tensors import TensorReader
from motet.spec import CacheSpec, FullAttention, SlidingAttention

GELU = "gelu_tanh"


class NormedAttention:
    """Attention with norms on each head's query, key and value, the last one without a weight.

    Where the file has no matrix for values they are the keys, before these norms. ``owner``: the
    layer whose keys and values it reads; what it has beside another's is not used.
    """

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        layer: int,
        config: HeadsConfig,
        kv_heads: int,
        *,
        rope: Rope,
        window: int = 0,
        owner: int,
    ) -> None:
        d, head, rows = config.d_model, config.head_dim, kv_heads * config.head_dim
        sizes = kv_heads, head, head
        spec = SlidingAttention(*sizes, window) if window else FullAttention(*sizes)
        self._kernels, self._eps, self._rope = kernels, config.norm_eps, rope
        self._window, self._scale = window, config.attention_scale
        self._owner, self._owns = owner, owner == layer
        self._q_shape, self._kv_shape = (-1, config.n_heads, head), (-1, kv_heads, head)
        self.caches: tuple[CacheSpec, ...] = (spec,) if self._owns else ()
        self.q = t.matrix("attn_q.weight", config.n_heads * head, d)
        self.q_norm = t.array("attn_q_norm.weight", head)
        if self._owns:
            self.k = t.matrix("attn_k.weight", rows, d)
            self.v = t.optional_matrix("attn_v.weight", rows, d)
            self.k_norm, self.v_norm = t.array("attn_k_norm.weight", head), t.ones(head)
        else:
            t.skip("attn_k.", "attn_v.", "attn_k_norm.")
        self.output = t.matrix("attn_output.weight", d, config.n_heads * head)

    def forward(self, h: Float32, view: View, wanted: Int64 | None) -> Float32:
        kernels, k, v = self._kernels, None, None
        if self._owns:
            q, k, v = self._qkv(h)
            k = kernels.rms_norm(k.reshape(self._kv_shape), self.k_norm, self._eps)
            v = kernels.rms_norm(v.reshape(self._kv_shape), self.v_norm, self._eps)
        else:
            (q,) = kernels.linear(h, self.q)
        q = kernels.rms_norm(q.reshape(self._q_shape), self.q_norm, self._eps)
        cache = view.cache(self._owner)
        h = kernels.attention(
            q, k, v, cache, scale=self._scale, window=self._window, rope=self._rope
        )
        return kernels.linear(h if wanted is None else h[wanted], self.output)[0]

    def _qkv(self, h: Float32) -> tuple[Float32, Float32, Float32]:
        if self.v is None:
            q, k = self._kernels.linear(h, self.q, self.k)
            return q, k, k
        q, k, v = self._kernels.linear(h, self.q, self.k, self.v)
        return q, k, v


class MLPBesideExperts:
    """norm(mlp(norm(x))) + norm(experts(norm(x))), each norm with a weight of its own.

    The router reads norm(x) too, times numbers that the file has, and 1 / √d. Its shares are times
    a number of each expert.
    """

    def __init__(
        self, t: TensorReader, kernels: Kernels, config: HeadsConfig, mlp: FeedForward, width: int
    ) -> None:
        count, d = config.n_experts, config.d_model

        def named(name: str) -> Norm:
            return rms_norm(t, kernels, name, d, config.norm_eps)

        self._kernels, self._eps = kernels, config.norm_eps
        self._routing = Routing(config.n_experts_used, weights="normalised")
        self._scale = 1 / math.sqrt(d)
        self.mlp = mlp
        self.before_mlp, self.after_mlp = named("ffn_norm"), named("post_ffw_norm_1")
        self.before_experts, self.after_experts = named("pre_ffw_norm_2"), named("post_ffw_norm_2")
        self.router = t.matrix("ffn_gate_inp.weight", count, d, scaled=False)
        self.router_norm = t.array("ffn_gate_inp.scale", d)
        self.gate, self.up = gates_and_ups(t, count, width, d, together=True)
        self.down = t.experts("ffn_down_exps.weight", count, d, width, scaled=False)
        self.shares = t.array("ffn_down_exps.scale", count)

    def forward(self, h: Float32) -> Float32:
        kernels = self._kernels
        out = self.after_mlp(self.mlp.forward(self.before_mlp(h)))
        seen = kernels.rms_norm(h, self.router_norm, self._eps)
        seen *= self._scale
        (logits,) = kernels.linear(seen, self.router)
        ids, weights = kernels.route(logits, self._routing)
        weights *= self.shares[ids]
        chosen = kernels.experts(
            self.before_experts(h), ids, weights, self.gate, self.up, self.down, GELU
        )
        out += self.after_experts(chosen)
        return out


class Gemma4Block(Block):
    """A block, then what the layer is given of each token, all times a number of the layer's.

    ``given``: how many numbers that is; 0 for none. ``ffn_norm``: as for ``Block``.
    """

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        config: Config,
        layer: int,
        mixer: Mixer,
        feed_forward: FeedForward,
        *,
        given: int,
        ffn_norm: str | None,
    ) -> None:
        super().__init__(
            t, kernels, config, mixer, feed_forward, post_norms=True, ffn_norm=ffn_norm
        )
        self.given = PerLayerInput(t, kernels, config, layer, given) if given else None
        self.scale = t.optional_array("layer_output_scale.weight", 1)

    def forward(self, x: Float32, view: Any, wanted: Int64 | None = None) -> Float32:
        """As ``Block``. ``view``: with inputs, where there are any."""
        x = super().forward(x, view, wanted)
        if self.given is not None:
            x += self.given.forward(x, view, wanted)
        if self.scale is not None:
            x *= self.scale
        return x
