"""How near the oracles' logits have to be, and the kernels that have to be so near."""

from motet.kernels import CPU
from motet.kernels.reference import Reference

KERNELS = {"reference": Reference, "native": CPU}

_LOOSE = ("qwen3next", "qwen35", "qwen35moe", "kimilinear")
"""Of which transformers' own float32 is off by up to 2.5e-4."""


def tolerance(name: str) -> float:
    """Largest difference of a logit with F32 weights, keys and values (deviation about 4)."""
    if name in _LOOSE:
        return 5e-4
    return 3e-4 if name.startswith("gemma") else 1e-4
