"""MPT (MosaicML 2023): attention biased by distance alone, norms and products without biases."""

from dataclasses import dataclass

from motet.kernels.interface import Kernels
from motet.models.bias import alibi
from motet.models.config import LAYER_EPS, HeadsConfig, read_heads, read_kv_heads, read_sizes
from motet.models.decoder import Decoder
from motet.models.keys import Keys
from motet.models.layers import MLP, Attention, Block
from motet.models.norms import loose_layer_norm
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class MptConfig(HeadsConfig):
    """A decoder with ALiBi."""

    n_kv_heads: int
    most_bias: float
    """The slope of the last head is 2 to the minus this, if heads are a power of 2."""
    clamp: float
    """Queries, keys and values are kept within ± this; 0 for no limit."""

    @property
    def positional(self) -> str:
        return "alibi"


class Mpt(Decoder[MptConfig]):
    """The ``mpt`` architecture; biases where the file has them, as no published one has."""

    def __init__(self, config: MptConfig, tensors: TensorReader, kernels: Kernels) -> None:
        bias = alibi(config.n_heads, config.most_bias)

        def block(t: TensorReader, i: int) -> Block:
            attention = Attention(
                t,
                kernels,
                i,
                config,
                config.n_kv_heads,
                bias=bias,
                clamp=config.clamp,
                fused=True,
                biases=True,
            )
            mlp = MLP(t, kernels, config, "gelu_erf", biases=True)
            return Block(t, kernels, config, attention, mlp, norm=loose_layer_norm)

        super().__init__(config, tensors, kernels, block, norm=loose_layer_norm)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> MptConfig:
        """The settings. Models without ALiBi, with learned positions instead, are refused."""
        heads = read_heads(keys, read_sizes(keys, n_vocab, eps=LAYER_EPS))
        return MptConfig(
            **vars(heads),
            n_kv_heads=read_kv_heads(keys, heads.n_heads),
            most_bias=keys.positive("attention.max_alibi_bias"),
            clamp=keys.positive("attention.clamp_kqv", 0.0, or_zero=True),
        )
