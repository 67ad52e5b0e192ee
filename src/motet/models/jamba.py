"""Jamba (Lieber et al. 2024, arXiv 2403.19887): Mamba and attention layers, experts in some.

There is no rotary embedding: the order of tokens is known from the Mamba layers.
"""

from dataclasses import dataclass

from motet.kernels.interface import Kernels
from motet.kernels.routing import Routing
from motet.models.config import HeadsConfig, read_heads, read_kv_heads_by_layer, read_sizes
from motet.models.decoder import Decoder
from motet.models.experts import MixtureOfExperts
from motet.models.keys import Keys
from motet.models.layers import Attention, Block, GatedMLP
from motet.models.mamba import read_mamba
from motet.models.scans import MambaMixer, MambaSizes, ScanNorms
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class JambaConfig(HeadsConfig):
    """Mamba layers and attention layers mixed, each followed by a feed-forward network."""

    kv_heads: tuple[int, ...]
    """Key and value heads of each layer; 0 makes it a Mamba layer."""
    ssm: MambaSizes


class Jamba(Decoder[JambaConfig]):
    """The ``jamba`` architecture. A layer has experts where the file has a router for it."""

    def __init__(self, config: JambaConfig, tensors: TensorReader, kernels: Kernels) -> None:
        ssm = config.ssm

        def block(t: TensorReader, i: int) -> Block:
            if config.kv_heads[i]:
                mixer = Attention(t, kernels, i, config, config.kv_heads[i])
            else:
                norms = ScanNorms(
                    t.array("ssm_dt_norm.weight", ssm.dt_rank),
                    t.array("ssm_b_norm.weight", ssm.d_state),
                    t.array("ssm_c_norm.weight", ssm.d_state),
                    config.norm_eps,
                )
                mixer = MambaMixer(t, kernels, i, config, ssm, norms)
            if t.has("ffn_gate_inp.weight"):
                feed = MixtureOfExperts(t, kernels, config, "silu", Routing(config.n_experts_used))
            else:
                feed = GatedMLP(t, kernels, config, "silu")
            return Block(t, kernels, config, mixer, feed)

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> JambaConfig:
        """The settings; which layers are mixtures of experts is seen from the tensors."""
        heads = read_heads(keys, read_sizes(keys, n_vocab, experts=True))
        kv_heads = read_kv_heads_by_layer(keys, heads)
        return JambaConfig(**vars(heads), kv_heads=kv_heads, ssm=read_mamba(keys))
