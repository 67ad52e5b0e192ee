"""FP8 checkpoints: matrices of eight bits a value with scales beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from motet.huggingface.config import ConfigReader
from motet.huggingface.safetensors import Stored
from motet.huggingface.tensors import Scaled, Weights

_SCALES = "_scale_inv", "_scale"
"""What a scale's name has after its matrix's. By any name values are bytes' times the scale."""
_OF_ACTIVATIONS = "activation_scale", "input_scale"
_MAX_BLOCK = 1 << 16


@dataclass(frozen=True)
class Fp8:
    """``block``: rows and columns of a matrix that share a scale; None where all of it does."""

    block: tuple[int, int] | None

    def matrices(self, tensors: Mapping[str, Stored]) -> dict[str, Weights]:
        """See ``Quantised``."""
        return {
            matrix: Scaled(tensors[matrix], tensors[name], self.block)
            for name in tensors
            for end in _SCALES
            if name.endswith(end) and _is_fp8(tensors, matrix := name.removesuffix(end))
        }

    def is_part(self, name: str, tensors: Mapping[str, Stored]) -> bool:
        """See ``Quantised``. Scales of activations are too: these stay floats here."""
        return name.endswith(_OF_ACTIVATIONS) or any(
            name.endswith(end) and _is_fp8(tensors, name.removesuffix(end)) for end in _SCALES
        )


def _is_fp8(tensors: Mapping[str, Stored], name: str) -> bool:
    return name in tensors and tensors[name].dtype == "F8_E4M3"


def read_fp8(part: ConfigReader) -> Fp8:
    """``part``: what config.json says of how matrices are quantised."""
    part.only("fmt", "e4m3", "another kind of FP8")
    # What of a model is FP8 shows in its tensors; activations stay floats.
    part.ignore("activation_scheme", "modules_to_not_convert", "ignored_layers", "scale_fmt")
    part.ignore("dequantize")
    return Fp8(_block(part))


def _block(part: ConfigReader) -> tuple[int, int] | None:
    name = "weight_block_size"
    block: Any = part.value(name, default=None)
    if block is None:
        return None
    two = isinstance(block, list) and len(block) == 2
    if not two or not all(type(n) is int and 0 < n <= _MAX_BLOCK for n in block):
        raise part.wrong((name,), block, "a number of rows and one of columns")
    return block[0], block[1]
