"""GLM 4 (Z.ai 2025): GLM-4-0414, and GLM 4.5 with experts (arXiv 2508.06471)."""

from dataclasses import dataclass

from motet.kernels.interface import Kernels
from motet.models.config import AttentionConfig, read_attention
from motet.models.decoder import Decoder
from motet.models.experts import Mixture, feed_forward, read_mixture
from motet.models.keys import Keys
from motet.models.layers import Attention, Block, GatedMLP
from motet.models.rope import make_rope
from motet.models.tensors import TensorReader


class Glm4(Decoder[AttentionConfig]):
    """The ``glm4`` architecture: norms on both sides, half of each head rotated.

    Rotary pairs stand side by side; gate and up in one tensor.
    """

    def __init__(self, config: AttentionConfig, tensors: TensorReader, kernels: Kernels) -> None:
        rope = make_rope(config.rope, "normal")

        def block(t: TensorReader, i: int) -> Block:
            attention = Attention(t, kernels, i, config, config.n_kv_heads, rope=rope, biases=True)
            mlp = GatedMLP(t, kernels, config, "silu", fused=True)
            return Block(t, kernels, config, attention, mlp, post_norms=True)

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings."""
        return read_attention(keys, n_vocab)


@dataclass(frozen=True, kw_only=True)
class Glm4MoeConfig(AttentionConfig):
    """Attention in every layer, experts in all but the first ones."""

    mixture: Mixture | None


class Glm4Moe(Decoder[Glm4MoeConfig]):
    """The ``glm4moe`` architecture. Layers that draft tokens, after the others, are not run."""

    def __init__(self, config: Glm4MoeConfig, tensors: TensorReader, kernels: Kernels) -> None:
        rope = make_rope(config.rope, "neox")

        def block(t: TensorReader, i: int) -> Block:
            normed = t.has("attn_q_norm.weight")
            attention = Attention(
                t, kernels, i, config, config.n_kv_heads, rope=rope, qk_norms=normed, biases=True
            )
            feed = feed_forward(t, kernels, config, config.mixture, i)
            return Block(t, kernels, config, attention, feed, ffn_norm="post_attention_norm")

        super().__init__(config, tensors, kernels, block)
        tensors.skip_blocks(config.n_layers, config.draft_layers)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Glm4MoeConfig:
        """The settings."""
        config = read_attention(keys, n_vocab, experts=True, drafts=True)
        return Glm4MoeConfig(**vars(config), mixture=read_mixture(keys, config))
