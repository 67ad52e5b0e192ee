"""Motet runs language models on ordinary machines: many sequences at once, each exact to the bit.

``Model`` and ``LLM`` are imported on first use, so that ``import motet`` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from motet.errors import (
    BatchError,
    CannotRewind,
    CapacityError,
    ModelFileError,
    MotetError,
    NumericalError,
    OptionError,
    StateFileError,
    TokenizerError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from motet.batch import Batch
    from motet.context import Context
    from motet.llm import LLM
    from motet.model import Model
    from motet.sampling import Sampling
    from motet.self_extend import AutoExtend, SelfExtend

__version__ = "0.1.0"

_LAZY = {
    "AutoExtend": "motet.self_extend",
    "Batch": "motet.batch",
    "Context": "motet.context",
    "LLM": "motet.llm",
    "Model": "motet.model",
    "Sampling": "motet.sampling",
    "SelfExtend": "motet.self_extend",
}

__all__ = [
    "LLM",
    "AutoExtend",
    "Batch",
    "BatchError",
    "CannotRewind",
    "CapacityError",
    "Context",
    "Model",
    "ModelFileError",
    "MotetError",
    "NumericalError",
    "OptionError",
    "Sampling",
    "SelfExtend",
    "StateFileError",
    "TokenizerError",
    "UnsupportedError",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'motet' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
