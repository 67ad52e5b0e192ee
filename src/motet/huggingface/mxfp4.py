"""MXFP4 checkpoints (Rouhani et al. 2023, arXiv 2310.10537): blocks of 32 values, and their scales.

A scale is a power of 2; a value is a sign and one of 0, 0.5, 1, 1.5, 2, 3, 4 and 6.
"""

from collections.abc import Mapping

import numpy as np

from motet.arrays import UInt8
from motet.errors import ModelFileError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.safetensors import Stored
from motet.huggingface.tensors import Weights
from motet.weights.formats import TensorType

_BLOCKS, _SCALES = "_blocks", "_scales"
"""What names have after the matrices'."""
_BYTES = 16
"""Of a block, whose neighbours share one."""


class Mxfp4:
    """Matrices ``[…, rows, columns]`` whose values and scales are tensors apart."""

    def matrices(self, tensors: Mapping[str, Stored]) -> dict[str, Weights]:
        """See ``Quantised``."""
        return {
            name.removesuffix(_BLOCKS): MxBlocks(stored, tensors[_scales(name)])
            for name, stored in tensors.items()
            if name.endswith(_BLOCKS) and _scales(name) in tensors
        }

    def is_part(self, name: str, tensors: Mapping[str, Stored]) -> bool:
        """See ``Quantised``."""
        if name.endswith(_SCALES):
            name = name.removesuffix(_SCALES) + _BLOCKS
        return name.endswith(_BLOCKS) and name in tensors and _scales(name) in tensors


class MxBlocks(Weights):
    """In GGUF's blocks: the scale, then sixteen bytes, of values i and i + 16 each."""

    def __init__(self, blocks: Stored, scales: Stored) -> None:
        """Raises ModelFileError where they don't fit each other."""
        shape = blocks.shape[:-1]
        if (blocks.dtype, scales.dtype) != ("U8", "U8") or blocks.shape != (*scales.shape, _BYTES):
            raise ModelFileError(
                f"tensor {shown(blocks.name)} is {blocks.dtype} {list(blocks.shape)}, and"
                f" {shown(scales.name)} {scales.dtype} {list(scales.shape)}: no MXFP4"
            )
        super().__init__((*shape[:-1], shape[-1] * 2 * _BYTES), TensorType.MXFP4)
        self._blocks, self._scales, self._per_row = blocks, scales, shape[-1]

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        count = self._per_row
        pairs = self._blocks.read(first * count, last * count)
        values = np.stack([pairs & 15, pairs >> 4], axis=2).reshape(-1, 2 * _BYTES)
        out = np.empty((len(pairs), 1 + _BYTES), np.uint8)
        out[:, 0] = self._scales.read(first, last).ravel()
        out[:, 1:] = values[:, :_BYTES] | values[:, _BYTES:] << 4
        return out.reshape(last - first, -1)


def read_mxfp4(part: ConfigReader) -> Mxfp4:
    """``part``: what config.json says of how matrices are quantised."""
    part.ignore("modules_to_not_convert", "dequantize")  # which are shows in the tensors
    return Mxfp4()


def _scales(blocks: str) -> str:
    return blocks.removesuffix(_BLOCKS) + _SCALES
