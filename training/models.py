"""The tiny models by name. A new one is a class like ``TinyModel`` and a line in MODELS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from training.data import TRAINED_LENGTH
from training.gemma2 import Gemma2, Gemma2Config
from training.jamba import Jamba, JambaConfig
from training.mamba import Mamba, MambaConfig

if TYPE_CHECKING:
    from gguf import GGUFWriter


class TinyModel(Protocol):
    """What training and export need beside ``nn.Module``: GGUF names, metadata and weights."""

    architecture: str

    def __call__(self, tokens: Tensor) -> Tensor: ...
    def auxiliary_loss(self) -> Tensor | float: ...
    def add_metadata(self, writer: GGUFWriter) -> None: ...
    def named_weights(self) -> dict[str, Tensor]: ...


MODELS: dict[str, Callable[[int], Gemma2 | Mamba | Jamba]] = {
    "motet-tiny": lambda n_vocab: Gemma2(Gemma2Config(n_vocab, TRAINED_LENGTH)),
    "motet-tiny-mamba": lambda n_vocab: Mamba(MambaConfig(n_vocab, TRAINED_LENGTH)),
    "motet-tiny-jamba": lambda n_vocab: Jamba(JambaConfig(n_vocab, TRAINED_LENGTH)),
}
