"""GPT-2 (Radford et al. 2019): learned positions, layer norms, biases everywhere."""

from dataclasses import dataclass

from motet.kernels.interface import Kernels
from motet.models.config import LAYER_EPS, HeadsConfig, read_heads, read_sizes
from motet.models.decoder import Decoder
from motet.models.keys import Keys
from motet.models.layers import MLP, Attention, Block
from motet.models.norms import layer_norm
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class Gpt2Config(HeadsConfig):
    """A decoder with a vector for each position."""

    @property
    def positional(self) -> str:
        return "learned"


class Gpt2(Decoder[Gpt2Config]):
    """The ``gpt2`` architecture."""

    def __init__(self, config: Gpt2Config, tensors: TensorReader, kernels: Kernels) -> None:
        def block(t: TensorReader, i: int) -> Block:
            attention = Attention(t, kernels, i, config, config.n_heads, fused=True, biases=True)
            mlp = MLP(t, kernels, config, "gelu_tanh", biases=True)
            return Block(t, kernels, config, attention, mlp, norm=layer_norm)

        super().__init__(config, tensors, kernels, block, norm=layer_norm, learned_positions=True)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Gpt2Config:
        """The settings; nothing beyond what every family has."""
        heads = read_heads(keys, read_sizes(keys, n_vocab, eps=LAYER_EPS))
        keys.only("attention.head_count_kv", heads.n_heads, "heads that share keys and values")
        return Gpt2Config(**vars(heads))
