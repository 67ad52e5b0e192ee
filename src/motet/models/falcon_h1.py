"""Falcon-H1 (Zuo et al. 2025, arXiv 2507.22448): attention and Mamba-2 side by side in every layer.

GGUF's weights have the multipliers of its configuration in them.
"""

from dataclasses import dataclass
from functools import partial

from motet.kernels.interface import Kernels
from motet.models.config import AttentionConfig, read_attention
from motet.models.decoder import Decoder
from motet.models.keys import Keys
from motet.models.layers import Attention, Beside, Block, GatedMLP
from motet.models.mamba2 import read_mamba2
from motet.models.norms import Norm, rms_norm
from motet.models.rope import make_rope
from motet.models.scans import Mamba2Mixer, Mamba2Sizes
from motet.models.tensors import TensorReader


@dataclass(frozen=True, kw_only=True)
class FalconH1Config(AttentionConfig):
    """Every layer has both."""

    ssm: Mamba2Sizes


class FalconH1(Decoder[FalconH1Config]):
    """The ``falcon-h1`` architecture. A layer's scan may lack the norm after its gate."""

    def __init__(self, config: FalconH1Config, tensors: TensorReader, kernels: Kernels) -> None:
        rope = make_rope(config.rope, "neox")

        def block(t: TensorReader, i: int) -> Block:
            normed = t.has("ssm_norm.weight")
            scan = Mamba2Mixer(t, kernels, i, config, config.ssm, normed=normed)
            attention = Attention(
                t, kernels, i, config, config.n_kv_heads, rope=rope, cache=len(scan.caches)
            )
            mlp = GatedMLP(t, kernels, config, "silu")
            return Block(t, kernels, config, Beside(scan, attention), mlp, norm=_norm)

        super().__init__(config, tensors, kernels, block)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> FalconH1Config:
        """The settings."""
        return FalconH1Config(**vars(read_attention(keys, n_vocab)), ssm=read_mamba2(keys))


def _norm(t: TensorReader, kernels: Kernels, name: str, size: int, eps: float) -> Norm:
    """As any other; the tensor of one is called by its bare name."""
    if name != "ffn_norm":
        return rms_norm(t, kernels, name, size, eps)
    return partial(kernels.rms_norm, weight=t.array(name, size), eps=eps)
