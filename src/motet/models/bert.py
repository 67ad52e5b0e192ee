"""BERT and its kin: encoders whose layers are normed after each part.

BERT (Devlin et al. 2018, arXiv 1810.04805) and all that share its file: MiniLM, bge, gte, e5, and
XLM-RoBERTa (Conneau et al. 2019, arXiv 1911.02116), whose first two positions the converter drops.
"""

from dataclasses import dataclass

from motet.kernels.interface import Kernels
from motet.models.bias import alibi
from motet.models.encoder import (
    Encoder,
    EncoderAttention,
    EncoderConfig,
    PostNormBlock,
    read_encoder,
)
from motet.models.keys import Keys
from motet.models.layers import MLP, GatedMLP
from motet.models.rope import RopeConfig, make_rope, read_rope
from motet.models.tensors import TensorReader


class Bert(Encoder[EncoderConfig]):
    """The ``bert`` architecture: learned positions, GELU by its error function."""

    def __init__(self, config: EncoderConfig, tensors: TensorReader, kernels: Kernels) -> None:
        def block(t: TensorReader, i: int) -> PostNormBlock:
            del i
            attention = EncoderAttention(t, kernels, config, config.n_kv_heads)
            return PostNormBlock(
                t, kernels, config, attention, MLP(t, kernels, config, "gelu_erf", biases=True)
            )

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> EncoderConfig:
        return read_encoder(keys, n_vocab, "learned")


class JinaBert2(Encoder[EncoderConfig]):
    """``jina-bert-v2`` (Günther et al. 2023, arXiv 2310.19923): ALiBi both ways, gated GELU."""

    def __init__(self, config: EncoderConfig, tensors: TensorReader, kernels: Kernels) -> None:
        slopes = alibi(config.n_heads)

        def block(t: TensorReader, i: int) -> PostNormBlock:
            del i
            attention = EncoderAttention(t, kernels, config, config.n_kv_heads, bias=slopes)
            mlp = GatedMLP(t, kernels, config, "gelu_erf", biases=True)
            return PostNormBlock(t, kernels, config, attention, mlp)

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> EncoderConfig:
        keys.only("attention.max_alibi_bias", 8.0, "other slopes than those of its kind")
        return read_encoder(keys, n_vocab, "alibi")


@dataclass(frozen=True, kw_only=True)
class RotaryEncoderConfig(EncoderConfig):
    """An encoder that knows positions from rotated queries and keys."""

    rope: RopeConfig


class NomicBert(Encoder[RotaryEncoderConfig]):
    """``nomic-bert`` (Nussbaum et al. 2024, arXiv 2402.01613): rotary positions, SwiGLU."""

    def __init__(
        self, config: RotaryEncoderConfig, tensors: TensorReader, kernels: Kernels
    ) -> None:
        rope = make_rope(config.rope, "neox")

        def block(t: TensorReader, i: int) -> PostNormBlock:
            del i
            attention = EncoderAttention(t, kernels, config, config.n_kv_heads, rope=rope)
            mlp = GatedMLP(t, kernels, config, "silu", biases=True)
            return PostNormBlock(t, kernels, config, attention, mlp)

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> RotaryEncoderConfig:
        config = read_encoder(keys, n_vocab, "rotary")
        return RotaryEncoderConfig(**vars(config), rope=read_rope(keys, config.head_dim, 1000.0))
