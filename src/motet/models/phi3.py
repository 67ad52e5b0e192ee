"""Phi 3 and 4 (Abdin et al. 2024, arXiv 2404.14219, 2412.08905): Llama with fused matrices.

Long contexts by LongRoPE (Ding et al. 2024, arXiv 2402.13753).
"""

from dataclasses import replace

from motet.kernels.interface import Kernels
from motet.models.config import AttentionConfig, read_attention
from motet.models.decoder import Decoder
from motet.models.keys import MAX_CONTEXT, Keys
from motet.models.layers import Attention, Block, GatedMLP
from motet.models.rope import make_rope
from motet.models.tensors import TensorReader

LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"


class Phi3(Decoder[AttentionConfig]):
    """The ``phi3`` architecture.

    Frequencies are divided by the long factors where the model's context is longer than the one
    that it was first trained for, as llama.cpp has it. (transformers takes the short ones for
    short texts, so that what it computes of a token changes once the text becomes long.)
    """

    def __init__(self, config: AttentionConfig, tensors: TensorReader, kernels: Kernels) -> None:
        half = config.rope.dimension // 2
        long, short = tensors.optional_array(LONG, half), tensors.optional_array(SHORT, half)
        stretched = config.context_length > config.rope.original_context > 0
        rope = make_rope(config.rope, "neox", long if stretched else short)

        def block(t: TensorReader, i: int) -> Block:
            attention = Attention(
                t,
                kernels,
                i,
                config,
                config.n_kv_heads,
                rope=rope,
                window=config.window,
                fused=True,
            )
            mlp = GatedMLP(t, kernels, config, "silu", fused=True)
            return Block(t, kernels, config, attention, mlp)

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings; a window, where the file gives one, is on every layer."""
        original = keys.integer("rope.scaling.original_context_length", 0, MAX_CONTEXT, 0)
        config = read_attention(keys, n_vocab)
        window = keys.integer("attention.sliding_window", 0, MAX_CONTEXT, 0)
        return replace(
            config,
            window=window,
            sliding=(window > 0,) * config.n_layers,
            rope=replace(config.rope, original_context=original),
        )
