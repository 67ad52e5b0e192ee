"""Which class runs which architecture: one line a family."""

from typing import Any

from motet.errors import UnsupportedError
from motet.models.family import Family
from motet.models.gemma import Gemma
from motet.models.gemma2 import Gemma2
from motet.models.gemma3 import Gemma3
from motet.models.jamba import Jamba
from motet.models.llama import Llama, Qwen2
from motet.models.mamba import Mamba
from motet.models.mamba2 import Mamba2
from motet.models.rwkv6 import Rwkv6

FAMILIES: dict[str, type[Family[Any]]] = {
    "gemma": Gemma,
    "gemma2": Gemma2,
    "gemma3": Gemma3,
    "jamba": Jamba,
    "llama": Llama,
    "mamba": Mamba,
    "mamba2": Mamba2,
    "qwen2": Qwen2,
    "rwkv6": Rwkv6,
}


def family_of(architecture: str) -> type[Family[Any]]:
    """The class for ``general.architecture``. Raises UnsupportedError that lists the known ones."""
    if architecture not in FAMILIES:
        raise UnsupportedError(
            f"general.architecture is {architecture!r}", hint=f"Motet runs {', '.join(FAMILIES)}"
        )
    return FAMILIES[architecture]
