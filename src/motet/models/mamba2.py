"""Mamba-2 (Dao, Gu 2024, arXiv 2405.21060), with one group of B and C or several (Codestral)."""

from dataclasses import dataclass

from motet.kernels.interface import Kernels
from motet.models.config import Config
from motet.models.decoder import Decoder
from motet.models.keys import MAX_WIDTH, Keys
from motet.models.layers import Block
from motet.models.mamba import read_scans_alone
from motet.models.scans import Mamba2Mixer, Mamba2Sizes
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class Mamba2Config(Config):
    """A model that consists of Mamba-2 layers."""

    ssm: Mamba2Sizes


class Mamba2(Decoder[Mamba2Config]):
    """The ``mamba2`` architecture."""

    def __init__(self, config: Mamba2Config, tensors: TensorReader, kernels: Kernels) -> None:
        def block(t: TensorReader, i: int) -> Block:
            return Block(t, kernels, config, Mamba2Mixer(t, kernels, i, config, config.ssm))

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Mamba2Config:
        """The settings."""
        return Mamba2Config(**vars(read_scans_alone(keys, n_vocab)), ssm=read_mamba2(keys))


def read_mamba2(keys: Keys) -> Mamba2Sizes:
    """The keys of Mamba-2 layers."""
    sizes = Mamba2Sizes(
        d_inner=keys.integer("ssm.inner_size", 1, MAX_WIDTH),
        d_state=keys.integer("ssm.state_size", 1, MAX_WIDTH),
        d_conv=keys.integer("ssm.conv_kernel", 2, MAX_WIDTH),
        n_heads=keys.integer("ssm.time_step_rank", 1, MAX_WIDTH),  # as Mamba-1's key is called
        n_groups=keys.integer("ssm.group_count", 1, MAX_WIDTH),
    )
    keys.divides("ssm.time_step_rank", sizes.n_heads, "ssm.inner_size", sizes.d_inner)
    keys.divides("ssm.group_count", sizes.n_groups, "ssm.time_step_rank", sizes.n_heads)
    return sizes
