"""Gemma 1 (Gemma Team 2024, arXiv 2403.08295): a scaled embedding, GeGLU, and a tied output."""

import math
from dataclasses import replace

from motet.errors import ModelFileError
from motet.kernels.interface import Kernels
from motet.models.alternating import alternating
from motet.models.config import AttentionConfig, read_attention
from motet.models.decoder import Decoder
from motet.models.keys import Keys
from motet.models.layers import Block, GatedMLP
from motet.models.tensors import TensorReader


class Gemma(Decoder[AttentionConfig]):
    """The ``gemma`` architecture, and what its successors have more.

    Norm weights are stored as 1 + Gemma's.
    """

    post_norms = False
    qk_norms = False

    def __init__(self, config: AttentionConfig, tensors: TensorReader, kernels: Kernels) -> None:
        attention = alternating(config, kernels, qk_norms=self.qk_norms)

        def block(t: TensorReader, i: int) -> Block:
            mixer, mlp = attention(t, i), GatedMLP(t, kernels, config, "gelu_tanh")
            return Block(t, kernels, config, mixer, mlp, post_norms=self.post_norms)

        super().__init__(
            config,
            tensors,
            kernels,
            block,
            embedding_scale=math.sqrt(config.d_model),
            logit_softcap=config.logit_softcap,
        )

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> AttentionConfig:
        """The settings; nothing beyond what every family has."""
        return read_attention(keys, n_vocab)


def scaled_as_27b(keys: Keys, config: AttentionConfig, n_layers: int) -> AttentionConfig:
    """With the scale of the 27B model, if ``config`` has that one's ``n_layers``.

    It divides scores by sqrt(d / heads), not by sqrt(head_dim); the file doesn't say.
    """
    if config.n_layers != n_layers:
        return config
    width = config.d_model // config.n_heads
    if not width:
        raise ModelFileError(
            f"{keys.key('embedding_length')} is {config.d_model}, less than "
            f"{keys.key('attention.head_count')}, {config.n_heads}"
        )
    return replace(config, attention_scale=1 / math.sqrt(width))
