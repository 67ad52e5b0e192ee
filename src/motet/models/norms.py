"""Norms as layers name them: each asks for its tensors, and is then a function of activations."""

from collections.abc import Callable
from functools import partial

from motet.arrays import Float32
from motet.kernels.interface import Kernels
from motet.models.tensors import TensorReader

Norm = Callable[[Float32], Float32]
"""Over the last axis, to an array of its own."""

SumNorm = Callable[[Float32, Float32], Float32]
"""Of the sum of two arrays."""

NormKind = Callable[[TensorReader, Kernels, str, int, float], Norm]
"""Makes the norm of a name and size, with an epsilon."""


def rms_norm(t: TensorReader, kernels: Kernels, name: str, size: int, eps: float) -> Norm:
    """By the root mean square, with a weight."""
    return partial(kernels.rms_norm, weight=t.array(f"{name}.weight", size), eps=eps)


def layer_norm(t: TensorReader, kernels: Kernels, name: str, size: int, eps: float) -> Norm:
    """By mean and variance, with a weight and a bias."""
    weight, bias = t.array(f"{name}.weight", size), t.array(f"{name}.bias", size)
    return partial(kernels.layer_norm, weight=weight, bias=bias, eps=eps)


def loose_layer_norm(t: TensorReader, kernels: Kernels, name: str, size: int, eps: float) -> Norm:
    """As ``layer_norm``, where the bias may be absent."""
    weight, bias = t.array(f"{name}.weight", size), t.optional_array(f"{name}.bias", size)
    return partial(kernels.layer_norm, weight=weight, bias=bias, eps=eps)


def layer_norm_of_sum(
    t: TensorReader, kernels: Kernels, name: str, size: int, eps: float
) -> SumNorm:
    """As ``loose_layer_norm``, of a sum."""
    weight, bias = t.array(f"{name}.weight", size), t.optional_array(f"{name}.bias", size)
    return lambda x, plus: kernels.layer_norm(x, weight, bias, eps, plus)
