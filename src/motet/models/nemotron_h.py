"""Nemotron-H (NVIDIA 2025, arXiv 2504.03624): a layer is a scan, attention or a network alone.

Nemotron 3 has experts for networks.
"""

from dataclasses import dataclass, replace

from motet.kernels.interface import Kernels
from motet.models.config import (
    Config,
    HeadsConfig,
    read_heads,
    read_kv_heads_by_layer,
    read_sizes,
)
from motet.models.decoder import Decoder
from motet.models.experts import Mixture, MixtureOfExperts, read_routing
from motet.models.keys import MAX_WIDTH, Keys
from motet.models.layers import MLP, Attention, Block, FeedForward, NoMixer
from motet.models.mamba2 import read_mamba2
from motet.models.scans import Mamba2Mixer, Mamba2Sizes
from motet.models.tensors import TensorReader

_SIGMOID = 2


@dataclass(frozen=True, kw_only=True)
class NemotronHConfig(HeadsConfig):
    """Layers of three kinds, each of one part."""

    kv_heads: tuple[int, ...]
    """Key and value heads of each layer; 0 where it does not attend."""
    widths: tuple[int, ...]
    """Channels of each layer's network; 0 where it has none. A layer with neither is a scan."""
    ssm: Mamba2Sizes
    mixture: Mixture | None = None
    """Of all networks, where they are experts."""


class NemotronH(Decoder[NemotronHConfig]):
    """The ``nemotron_h`` architecture. Attention knows no positions."""

    def __init__(self, config: NemotronHConfig, tensors: TensorReader, kernels: Kernels) -> None:
        def block(t: TensorReader, i: int) -> Block:
            if config.kv_heads[i]:
                mixer = Attention(t, kernels, i, config, config.kv_heads[i])
            elif config.widths[i]:
                mixer = NoMixer(_network(t, kernels, config, config.widths[i]))
            else:
                mixer = Mamba2Mixer(t, kernels, i, config, config.ssm)
            return Block(t, kernels, config, mixer)

        super().__init__(config, tensors, kernels, block)
        tensors.skip_blocks(config.n_layers, config.draft_layers)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> NemotronHConfig:
        """The settings."""
        return _read(keys, read_sizes(keys, n_vocab))


class NemotronHMoe(NemotronH):
    """The ``nemotron_h_moe`` architecture. Layers that draft tokens, at the end, are not run."""

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> NemotronHConfig:
        """The settings."""
        config = _read(keys, read_sizes(keys, n_vocab, experts=True, drafts=True))
        used = config.n_experts_used
        # The width below says all.
        keys.integer("expert_shared_count", 0, MAX_WIDTH, 0)
        mixture = Mixture(
            routing=read_routing(keys, config.n_experts, used, gating=_SIGMOID),
            d_ff=keys.integer("expert_feed_forward_length", 1, MAX_WIDTH),
            shared_d_ff=keys.integer("expert_shared_feed_forward_length", 0, MAX_WIDTH, 0),
            latent=keys.integer("moe_latent_size", 0, MAX_WIDTH, 0),
        )
        return replace(config, mixture=mixture)


def _network(t: TensorReader, kernels: Kernels, config: NemotronHConfig, width: int) -> FeedForward:
    """A layer's network, or its experts."""
    mixture = config.mixture
    if mixture is None:
        return MLP(t, kernels, replace(config, d_ff=width), "relu2", biases=True)
    shared = None
    if mixture.shared_d_ff:
        wide = replace(config, d_ff=mixture.shared_d_ff)
        shared = MLP(t, kernels, wide, "relu2", suffix="_shexp")
    return MixtureOfExperts(
        t,
        kernels,
        replace(config, d_ff=mixture.d_ff),
        "relu2",
        mixture.routing,
        biased=True,
        gated=False,
        latent=mixture.latent,
        shared=shared,
    )


def _read(keys: Keys, sizes: Config) -> NemotronHConfig:
    keys.only("attention.layer_norm_epsilon", sizes.norm_eps, "another epsilon of its norms")
    in_file = sizes.n_layers + sizes.draft_layers
    widths = keys.integers("feed_forward_length", in_file, 0, MAX_WIDTH)
    heads = read_heads(keys, sizes, d_ff=max(widths))
    keys.only("rope.scaling.finetuned", False, "attention that knows positions")
    keys.take("rope.dimension_count", 0)  # of no rotary embedding
    return NemotronHConfig(
        **vars(heads),
        kv_heads=read_kv_heads_by_layer(keys, heads),
        widths=widths[: sizes.n_layers],
        ssm=read_mamba2(keys),
    )
