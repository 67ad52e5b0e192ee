"""What RWKV-7's recurrence has for each channel of each head."""

from typing import NamedTuple

from motet.arrays import Float32


class Wkv7Heads(NamedTuple):
    """Weights ``[H, S]`` (Peng et al. 2025, arXiv 2503.14456, §4)."""

    k_k: Float32
    """Of the keys by which what is known is found."""
    k_a: Float32
    """How far the rate counts for the keys under which values are added."""
    r_k: Float32
    """Of what a token's own value is given beside the state's."""
    norm: Float32
    norm_bias: Float32
    """Of the norm over a head."""
