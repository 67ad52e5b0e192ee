"""NVFP4 checkpoints (NVIDIA 2025, arXiv 2509.25149): 4 bits a value, 8 for the scale of each 16.

A value is a sign and one of 0, 0.5, 1, 1.5, 2, 3, 4 and 6, a scale is E4M3 without a sign; all of a
matrix has another one, a float32. ModelOpt multiplies by that one, compressed-tensors divides.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from motet.arrays import UInt8
from motet.errors import ModelFileError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.safetensors import Stored
from motet.huggingface.tensors import Plain, Weights, e4m3
from motet.weights.formats import TensorType

_GROUP = 16
"""Values that share a scale."""
_SCALES = "_scale"
"""What a name has after its matrix's."""
_OF_ACTIVATIONS = ".input_scale", ".input_global_scale", ".q_scale", ".k_scale", ".v_scale"
_SIZES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_VALUES = np.concatenate([_SIZES, -_SIZES])


@dataclass(frozen=True)
class Nvfp4:
    """``values``, ``whole``: what names of the values and of the matrix's scale have after its own.

    ``divides``: whether the latter does.
    """

    values: str
    whole: str
    divides: bool

    def matrices(self, tensors: Mapping[str, Stored]) -> dict[str, Weights]:
        """See ``Quantised``."""
        names = [name.removesuffix(self.values) for name in tensors if name.endswith(self.values)]
        return {name: self._matrix(name, tensors) for name in names if self._is_one(name, tensors)}

    def is_part(self, name: str, tensors: Mapping[str, Stored]) -> bool:
        """See ``Quantised``. Scales of activations are too: these are rounded otherwise here."""
        return name.endswith(_OF_ACTIVATIONS) or any(
            name.endswith(end) and self._is_one(name.removesuffix(end), tensors)
            for end in (self.values, _SCALES, self.whole)
        )

    def _is_one(self, name: str, tensors: Mapping[str, Stored]) -> bool:
        return all(name + end in tensors for end in (self.values, _SCALES, self.whole))

    def _matrix(self, name: str, tensors: Mapping[str, Stored]) -> Weights:
        whole = Plain(tensors[name + self.whole]).floats().ravel()
        if whole.size != 1:
            raise ModelFileError(f"tensor {shown(name + self.whole)} is {whole.size} numbers")
        with np.errstate(divide="ignore"):
            scale = 1 / whole[0] if self.divides else whole[0]
        return Fp4Matrix(tensors[name + self.values], tensors[name + _SCALES], scale)


class Fp4Matrix(Weights):
    """float32: each value times its group's scale, which is exact, times the matrix's."""

    def __init__(self, values: Stored, scales: Stored, scale: np.float32) -> None:
        """``values``: two in a byte. Raises ModelFileError where scales don't fit."""
        shape = (*values.shape[:-1], 2 * values.shape[-1]) if values.shape else ()
        groups = (*shape[:-1], shape[-1] // _GROUP) if shape else ()
        if (values.dtype, scales.dtype) != ("U8", "F8_E4M3") or scales.shape != groups:
            raise ModelFileError(
                f"tensor {shown(values.name)} is {values.dtype} {list(values.shape)}, and"
                f" {shown(scales.name)} {scales.dtype} {list(scales.shape)}: no NVFP4"
            )
        super().__init__(shape, TensorType.F32)
        self._values, self._scales, self._scale = values, scales, scale

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        pairs = self._values.read(first, last)
        values = _VALUES[np.stack([pairs & 15, pairs >> 4], axis=2).reshape(len(pairs), -1)]
        scales = e4m3()[self._scales.read(first, last) & 0x7F]
        return (values * scales.repeat(_GROUP, axis=1) * self._scale).view(np.uint8)


def read_modelopt(part: ConfigReader) -> Nvfp4:
    """``part``: what config.json says of how matrices are quantised."""
    part.only("quant_algo", "NVFP4", "matrices in another type")
    part.ignore("config_groups", "ignore", "exclude_modules", "group_size", "producer")
    part.ignore("kv_cache_scheme", "kv_cache_quant_algo")
    return Nvfp4("", "_scale_2", False)


def read_compressed(part: ConfigReader) -> Nvfp4:
    """``part``: what config.json says of how matrices are quantised."""
    part.only("format", "nvfp4-pack-quantized", "matrices in another type")
    part.ignore("config_groups", "ignore", "kv_cache_scheme", "quantization_status", "version")
    part.ignore("global_compression_ratio", "sparsity_config")
    part.only("transform_config", {}, "matrices that are multiplied by others first")
    return Nvfp4("_packed", "_global_scale", True)
