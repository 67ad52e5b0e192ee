"""Nemotron-H (NVIDIA 2025, arXiv 2504.03624): a layer is a scan, attention or a network alone."""

from dataclasses import dataclass, replace

from motet.kernels.interface import Kernels
from motet.models.config import HeadsConfig, read_heads, read_kv_heads_by_layer, read_sizes
from motet.models.decoder import Decoder
from motet.models.keys import MAX_WIDTH, Keys
from motet.models.layers import MLP, Attention, Block, NoMixer
from motet.models.mamba2 import read_mamba2
from motet.models.scans import Mamba2Mixer, Mamba2Sizes
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class NemotronHConfig(HeadsConfig):
    """Layers of three kinds, each of one part."""

    kv_heads: tuple[int, ...]
    """Key and value heads of each layer; 0 where it does not attend."""
    widths: tuple[int, ...]
    """Channels of each layer's network; 0 where it has none. A layer with neither is a scan."""
    ssm: Mamba2Sizes


class NemotronH(Decoder[NemotronHConfig]):
    """The ``nemotron_h`` architecture. Attention knows no positions."""

    def __init__(self, config: NemotronHConfig, tensors: TensorReader, kernels: Kernels) -> None:
        def block(t: TensorReader, i: int) -> Block:
            if config.kv_heads[i]:
                mixer = Attention(t, kernels, i, config, config.kv_heads[i])
            elif config.widths[i]:
                mlp = MLP(t, kernels, replace(config, d_ff=config.widths[i]), "relu2", biases=True)
                mixer = NoMixer(mlp)
            else:
                mixer = Mamba2Mixer(t, kernels, i, config, config.ssm)
            return Block(t, kernels, config, mixer)

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> NemotronHConfig:
        """The settings."""
        sizes = read_sizes(keys, n_vocab)
        keys.only("attention.layer_norm_epsilon", sizes.norm_eps, "another epsilon of its norms")
        widths = keys.integers("feed_forward_length", sizes.n_layers, 0, MAX_WIDTH)
        heads = read_heads(keys, sizes, d_ff=max(widths))
        keys.only("rope.scaling.finetuned", False, "attention that knows positions")
        keys.take("rope.dimension_count", 0)  # of no rotary embedding
        return NemotronHConfig(
            **vars(heads),
            kv_heads=read_kv_heads_by_layer(keys, heads),
            widths=widths,
            ssm=read_mamba2(keys),
        )
