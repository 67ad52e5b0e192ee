"""Mamba-1 and Falcon-Mamba (Gu, Dao 2023, arXiv 2312.00752; Zuo et al. 2024, arXiv 2410.05355)."""

from dataclasses import dataclass

from motet.kernels.interface import Kernels
from motet.models.config import Config, read_sizes
from motet.models.decoder import Decoder
from motet.models.keys import MAX_WIDTH, Keys
from motet.models.layers import Block
from motet.models.scans import MambaMixer, MambaSizes, ScanNorms
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class MambaConfig(Config):
    """A model that consists of Mamba layers."""

    ssm: MambaSizes
    dt_b_c_eps: float | None = None
    """Epsilon of the norms, without weights, of time step, B and C (Falcon-Mamba)."""


class Mamba(Decoder[MambaConfig]):
    """The ``mamba`` architecture: nothing but Mamba layers."""

    def __init__(self, config: MambaConfig, tensors: TensorReader, kernels: Kernels) -> None:
        norms = None
        if config.dt_b_c_eps is not None:
            of_state, eps = tensors.ones(config.ssm.d_state), config.dt_b_c_eps
            norms = ScanNorms(tensors.ones(config.ssm.dt_rank), of_state, of_state, eps)

        def block(t: TensorReader, i: int) -> Block:
            return Block(t, kernels, config, MambaMixer(t, kernels, i, config, config.ssm, norms))

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> MambaConfig:
        """The settings."""
        sizes = read_scans_alone(keys, n_vocab)
        normed = keys.flag("ssm.dt_b_c_rms", False)
        # The second key is Motet's own: llama.cpp takes the layers' epsilon.
        eps = keys.positive("ssm.dt_b_c_rms_eps", sizes.norm_eps) if normed else None
        return MambaConfig(**vars(sizes), ssm=read_mamba(keys), dt_b_c_eps=eps)


def read_mamba(keys: Keys) -> MambaSizes:
    """The keys of Mamba layers."""
    return MambaSizes(
        d_inner=keys.integer("ssm.inner_size", 1, MAX_WIDTH),
        d_state=keys.integer("ssm.state_size", 1, MAX_WIDTH),
        d_conv=keys.integer("ssm.conv_kernel", 2, MAX_WIDTH),
        dt_rank=keys.integer("ssm.time_step_rank", 1, MAX_WIDTH),
    )


def read_scans_alone(keys: Keys, n_vocab: int) -> Config:
    """The sizes of a model without attention and feed-forward networks."""
    for name in ("attention.head_count", "attention.head_count_kv"):
        keys.only(name, 0, "attention heads, which this architecture does not have")
    keys.only("feed_forward_length", 0, "a feed-forward network, which it does not have")
    return read_sizes(keys, n_vocab)
