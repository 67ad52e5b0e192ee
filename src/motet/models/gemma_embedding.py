"""EmbeddingGemma (Schechter Vera et al. 2025, arXiv 2509.20354): Gemma 3 that sees both ways."""

import math
from dataclasses import dataclass, replace

from motet.arrays import Float32, Int32, Int64
from motet.kernels.interface import Kernels
from motet.models.config import AttentionConfig, read_attention, read_sliding
from motet.models.encoder import EncoderAttention
from motet.models.family import Whole
from motet.models.keys import MAX_CONTEXT, MAX_WIDTH, Keys
from motet.models.layers import Block, GatedMLP
from motet.models.pooled_heads import PooledHead
from motet.models.rope import RopeConfig, make_rope
from motet.models.tensors import EMBEDDING, TensorReader


@dataclass(frozen=True, kw_only=True)
class GemmaEmbeddingConfig(AttentionConfig):
    """Gemma 3's, with what follows the pooling."""

    projected: int = 0
    """Channels between the two matrices that a mean goes through; 0 where the file has none."""


class Projection:
    """The two dense layers that follow the pooling, without biases."""

    def __init__(self, tensors: TensorReader, kernels: Kernels, d: int, inner: int) -> None:
        self._kernels = kernels
        self.outputs = d
        self.up = tensors.matrix("dense_2.weight", inner, d)
        self.down = tensors.matrix("dense_3.weight", d, inner)

    def forward(self, x: Float32) -> Float32:
        """Pooled states ``[S, d_model]`` to the same."""
        (h,) = self._kernels.linear(x, self.up)
        return self._kernels.linear(h, self.down)[0]


class GemmaEmbedding:
    """The ``gemma-embedding`` architecture. A window reaches half of it to either side."""

    def __init__(
        self, config: GemmaEmbeddingConfig, tensors: TensorReader, kernels: Kernels
    ) -> None:
        self.config = config
        self.kernels = kernels
        d = config.d_model
        rope = make_rope(config.rope, "neox")
        sliding_rope = make_rope(config.sliding_rope, "neox") if config.sliding_rope else rope

        def block(t: TensorReader, i: int) -> Block:
            slides = config.sliding[i]
            attention = EncoderAttention(
                t,
                kernels,
                config,
                config.n_kv_heads,
                rope=sliding_rope if slides else rope,
                window=config.window // 2 if slides else 0,
                qk_norms=True,
            )
            mlp = GatedMLP(t, kernels, config, "gelu_tanh")
            return Block(t, kernels, config, attention, mlp, post_norms=True)

        self.token_embd = tensors.matrix(EMBEDDING, config.n_vocab, d)
        self.output_norm = tensors.array("output_norm.weight", d)
        self.blocks = [block(tensors.block(i), i) for i in range(config.n_layers)]
        self.caches = ((),) * config.n_layers
        self.pooled_heads: dict[str, PooledHead] = {}
        if config.projected:
            self.pooled_heads["mean"] = Projection(tensors, kernels, d, config.projected)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> GemmaEmbeddingConfig:
        """The settings; layer i sees everything iff (i + 1) % 6 == 0."""
        config = read_attention(keys, n_vocab, default_rope_base=None, causal=False)
        window = keys.integer("attention.sliding_window", 0, MAX_CONTEXT, 0)
        if window == 1:  # half of it is nothing, which stands for everything
            raise keys.wrong("attention.sliding_window", window, "0 or a whole number from 2")
        base = keys.positive("rope.freq_base_swa", 10000.0)
        sliding = read_sliding(keys, config.n_layers, 6)
        projected = keys.integer("dense_2_feat_out", 0, MAX_WIDTH, 0)
        for name, size in (("2_feat_in", config.d_model), ("3_feat_out", config.d_model)):
            keys.only(f"dense_{name}", size, "a projection to another size")
        keys.only("dense_3_feat_in", projected, "projections that do not fit")
        config = replace(
            config,
            window=window,
            sliding=sliding if window else config.sliding,
            sliding_rope=RopeConfig(base, config.rope.dimension) if window else None,
        )
        return GemmaEmbeddingConfig(**vars(config), projected=projected)

    def encode(self, tokens: Int32, view: Whole, wanted: Int64 | None) -> Float32:
        """See ``EncoderFamily``."""
        x = self.kernels.embedding(self.token_embd, tokens)
        x *= math.sqrt(self.config.d_model)
        last = self.blocks[-1]
        for block in self.blocks:
            x = block.forward(x, view, wanted if block is last else None)
        return self.kernels.rms_norm(x, self.output_norm, self.config.norm_eps)
