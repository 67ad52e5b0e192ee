"""StarCoder2 (Lozhkov et al. 2024, arXiv 2402.19173): rotary, with layer norms and a plain MLP."""

from dataclasses import replace

from motet.kernels.interface import Kernels
from motet.models.config import LAYER_EPS, AttentionConfig, read_attention
from motet.models.decoder import Decoder
from motet.models.keys import MAX_CONTEXT, Keys
from motet.models.layers import MLP, Attention, Block
from motet.models.norms import layer_norm
from motet.models.rope import make_rope
from motet.models.tensors import TensorReader


class StarCoder2(Decoder[AttentionConfig]):
    """The ``starcoder2`` architecture; biases where the file has them."""

    def __init__(self, config: AttentionConfig, tensors: TensorReader, kernels: Kernels) -> None:
        rope = make_rope(config.rope, "neox")

        def block(t: TensorReader, i: int) -> Block:
            attention = Attention(
                t,
                kernels,
                i,
                config,
                config.n_kv_heads,
                rope=rope,
                window=config.window,
                biases=True,
            )
            mlp = MLP(t, kernels, config, "gelu_tanh", biases=True)
            return Block(t, kernels, config, attention, mlp, norm=layer_norm)

        super().__init__(config, tensors, kernels, block, norm=layer_norm)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings; a sliding window, where the file gives one, is on every layer."""
        config = read_attention(keys, n_vocab, eps=LAYER_EPS)
        window = keys.integer("attention.sliding_window", 0, MAX_CONTEXT, 0)
        return replace(config, window=window, sliding=(window > 0,) * config.n_layers)
