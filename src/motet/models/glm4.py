"""GLM 4 (Z.ai 2025, GLM-4-0414): norms on both sides, half of each head rotated."""

from motet.kernels.interface import Kernels
from motet.models.config import AttentionConfig, read_attention
from motet.models.decoder import Decoder
from motet.models.keys import Keys
from motet.models.layers import Attention, Block, GatedMLP
from motet.models.rope import make_rope
from motet.models.tensors import TensorReader


class Glm4(Decoder[AttentionConfig]):
    """The ``glm4`` architecture. Rotary pairs stand side by side; gate and up in one tensor."""

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
