"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685), merged into a model as it is read."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motet.arrays import Float32, UInt8
from motet.errors import (
    CapacityError,
    ModelFileError,
    NumericalError,
    OptionError,
    UnsupportedError,
    shown,
)
from motet.kernels.interface import Kernels, Matrix
from motet.kernels.quantizing import QUANTIZED_TYPES, TERNARY
from motet.weights.formats import TensorType, dequantize
from motet.weights.source import ChangedSource, ModelSource, TensorInfo

_log = logging.getLogger("motet")
_A, _B = ".lora_a", ".lora_b"
_LISTED = 4
_STRONGEST = 1e12
_MOST_RANK = 1 << 14
_MOST_BYTES = 1 << 32
"""Of an adapter as float32, which is held in memory while the model is read."""


@dataclass(frozen=True)
class Adapter:
    """What an adapter adds to matrices: W + ``factor`` · B · A (eq. 3 with α / r), by their names.

    ``parts``: B ``[rows, r]`` as it is, and A transposed, ``[columns, r]``.
    """

    path: str
    architecture: str
    parts: Mapping[str, tuple[Float32, Float32]]
    factors: Mapping[str, float]


def read_adapter(source: ModelSource, scale: float = 1.0) -> Adapter:
    """The adapter in a GGUF file or a PEFT directory, ``scale`` times as strong as it was trained.

    Raises UnsupportedError for what is no LoRA adapter, or has more than A and B; ModelFileError
    where they don't fit each other; OptionError for a scale that is no number.
    """
    if not math.isfinite(scale):
        raise OptionError(f"the adapter's scale is {scale}", hint="give a number, such as 1 or 0.5")
    kind = source.metadata.get("general.type"), source.metadata.get("adapter.type")
    if kind != ("adapter", "lora"):
        raise UnsupportedError(
            f"{source.path}: is not a LoRA adapter: its general.type and adapter.type are"
            f" {shown(kind[0])} and {shown(kind[1])}"
        )
    known = "adapter.type", "adapter.lora.alpha"
    for key, value in source.metadata.items():
        if key.startswith("adapter.") and key not in known:
            raise UnsupportedError(
                f"{source.path}: has a key that Motet does not know: {key} = {shown(value)}"
            )
    alpha = source.metadata.get("adapter.lora.alpha", 0.0)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ModelFileError(f"{source.path}: adapter.lora.alpha is {shown(alpha)}, not a number")
    names = sorted({name.removesuffix(_A).removesuffix(_B) for name in source.tensors})
    if not names:
        raise ModelFileError(f"{source.path}: has no tensors")
    held = sum(4 * info.rows * info.columns for info in source.tensors.values())
    if held > _MOST_BYTES:
        raise CapacityError(f"{source.path}: the adapter takes {held / 1e9:.1f} GB of memory")
    parts: dict[str, tuple[Float32, Float32]] = {}
    factors: dict[str, float] = {}
    for name in names:
        a, b = (_matrix(source, name, end) for end in (_A, _B))
        if a.shape[0] != b.shape[1] or a.shape[0] > _MOST_RANK:
            raise ModelFileError(
                f"{source.path}: {name}: A is {list(a.shape)} and B {list(b.shape)}, which have no"
                " rank in common"
            )
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise NumericalError(
                f"{source.path}: {name}: A or B has values that are not finite",
                hint="the adapter is damaged: get it again",
            )
        parts[name] = b, np.ascontiguousarray(a.T)
        # As llama.cpp: without an alpha, B · A as it is.
        factors[name] = scale * (alpha / a.shape[0] if alpha else 1.0)
        if abs(factors[name]) > _STRONGEST:
            raise ModelFileError(f"{source.path}: {name} would count {factors[name]:g} times")
    source.require_unchanged()
    return Adapter(source.path, source.architecture, parts, factors)


def _matrix(source: ModelSource, name: str, end: str) -> Float32:
    info = source.tensors.get(name + end)
    if info is None:
        others = [other for other in source.tensors if not other.endswith((_A, _B))]
        if others:
            listed = ", ".join(others[:_LISTED])
            raise UnsupportedError(
                f"{source.path}: has whole tensors beside A and B: {listed}",
                hint="Motet merges adapters of low rank alone",
            )
        raise ModelFileError(f"{source.path}: lacks {name + end}")
    if len(info.shape) != 2 or name == "token_embd.weight":
        raise UnsupportedError(
            f"{source.path}: {name + end} has the shape {list(info.shape)}: only matrices that are"
            " multiplied with are merged, not embeddings and not stacks of experts"
        )
    return dequantize(source.raw(info.name), info.type).reshape(info.shape)


class Merged(ChangedSource):
    """``source`` with adapters added to its matrices, in their own types; it closes the source.

    Quantised matrices are quantised again; those of types that Motet does not write, or that hold
    three values alone, become float32.
    The sum is float32, in an order that is the same on every machine.
    """

    def __init__(
        self,
        source: ModelSource,
        adapters: Sequence[Adapter],
        kernels: Kernels,
        *,
        widens: bool = False,
    ) -> None:
        """``widens``: float matrices that are changed become float32.

        Raises ModelFileError for an adapter of another model.
        """
        super().__init__(source)
        self._kernels = kernels
        self._widens = widens
        infos = dict(source.tensors)
        self._added: dict[str, list[tuple[Float32, Matrix]]] = {}
        for adapter in adapters:
            self._add(adapter, infos)
        self.tensors = infos
        rounded = [name for name in self._added if self.tensors[name].type.block > 1]
        if rounded:
            _log.warning(
                "%s: %d matrices that adapters change are quantised again, which costs more than"
                " merging them into the original and quantising that",
                self.path,
                len(rounded),
            )

    def _add(self, adapter: Adapter, infos: dict[str, TensorInfo]) -> None:
        """Note what it adds to which matrices, and in ``infos`` their types."""
        if adapter.architecture != self.architecture:
            raise ModelFileError(
                f"{adapter.path}: is an adapter of a {shown(adapter.architecture)} model, and"
                f" {self.path} is {self.architecture}"
            )
        for name, (b, a) in adapter.parts.items():
            info = infos.get(name)
            if info is None or info.shape != (len(b), len(a)):
                found = f"has the shape {list(info.shape)}" if info else "is not there"
                raise ModelFileError(
                    f"{adapter.path}: is for another model: it changes {name} of the shape"
                    f" {[len(b), len(a)]}, which {found} in {self.path}"
                )
            kept = info.type in QUANTIZED_TYPES - TERNARY
            if not kept or (self._widens and info.type.block == 1):
                infos[name] = TensorInfo(name, info.shape, TensorType.F32)
            scaled = b * np.float32(adapter.factors[name] / self._scale_of(name))
            matrix = self._kernels.pack(a.view(np.uint8), TensorType.F32, *a.shape)
            self._added.setdefault(name, []).append((scaled, matrix))

    def _scale_of(self, name: str) -> float:
        """The number by which the matrix is multiplied, and so what is added to it would be."""
        beside = name.removesuffix("weight") + "scale"
        info = self._source.tensors.get(beside)
        if info is None or info.rows * info.columns > 1:
            return 1.0
        scale = float(dequantize(self._source.raw(beside), info.type).item())
        if not math.isfinite(scale) or scale == 0:
            raise ModelFileError(
                f"{self.path}: {beside} is {scale:g}: {name} times that takes no adapter"
            )
        return scale

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        """As a ModelSource does; NumericalError too, for a sum that the type cannot hold."""
        added = self._added.get(name)
        if not added:
            return self._source.read_rows(name, first, last, buffer)
        raw = self._source.read_rows(name, first, last)
        values = dequantize(raw, self._source.tensors[name].type)
        for b, a in added:
            (product,) = self._kernels.linear(b[first:last], a)
            values += product
        return self._kernels.quantize(values, self.tensors[name].type)
