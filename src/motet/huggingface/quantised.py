"""Checkpoints whose matrices are quantised: a matrix is several tensors."""

from collections.abc import Mapping
from typing import Protocol

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.fp8 import read_fp8
from motet.huggingface.mxfp4 import read_mxfp4
from motet.huggingface.nvfp4 import read_compressed, read_modelopt
from motet.huggingface.safetensors import Stored
from motet.huggingface.tensors import Weights

_NAME = "quantization_config"
_WAYS = {
    "fp8": read_fp8,
    "mxfp4": read_mxfp4,
    "modelopt": read_modelopt,
    "compressed-tensors": read_compressed,
}


class Quantised(Protocol):
    """A way to store matrices."""

    def matrices(self, tensors: Mapping[str, Stored]) -> dict[str, Weights]:
        """Those that are stored so, by the names that they would have otherwise."""
        ...

    def is_part(self, name: str, tensors: Mapping[str, Stored]) -> bool:
        """Whether a tensor is a part of one."""
        ...


def read_quantised(config: ConfigReader) -> Quantised | None:
    """How matrices are stored; None where as any others. Raises UnsupportedError for other ways."""
    for name in (_NAME, "compression_config"):
        if not config.has(name):
            continue
        part = config.part(name)
        method = part.value("quant_method", default=None)
        read = _WAYS.get(str(method))
        if read is None or name != _NAME:
            raise UnsupportedError(
                f"{part.where}: quant_method is {shown(method)}; Motet does not read its weights",
                hint="take the checkpoint that it was made from, or a GGUF file",
            )
        quantised = read(part)
        part.refuse_unread()
        return quantised
    return None
