"""A model as it is to be loaded: with adapters merged, and its float matrices in another type."""

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from motet import checks
from motet.conversion.lora import Adapter, Merged, read_adapter
from motet.conversion.mixes import Wishes, assign, mix_of
from motet.conversion.retyped import Retyped
from motet.errors import CapacityError, OptionError
from motet.hub import local_path
from motet.kernels.interface import Kernels
from motet.opening import open_adapter
from motet.packed import PackedFile, is_packed
from motet.weights.formats import TensorType
from motet.weights.source import ModelSource

LoraPath: TypeAlias = "str | PathLike[str]"
LoraPair: TypeAlias = "tuple[LoraPath, float]"
_STRONGEST = 1e6
"""Of an adapter's strength, in either direction."""
_log = logging.getLogger("motet")


def read_adapters(
    lora: "LoraPath | LoraPair | Sequence[LoraPath | LoraPair]", model: Path
) -> list[Adapter]:
    """The adapters that a caller gave for the ``model``: paths, each alone or with a strength.

    Raises OptionError for what is neither and for a packed model, and as ``open_adapter`` and
    ``read_adapter`` do.
    """
    given = with_scales(lora)
    if given and is_packed(local_path(model)):
        raise _packed("lora is given", str(model))
    return [_adapter(*each, model) for each in given]


def prepared(
    source: ModelSource, type: str | None, adapters: Sequence[Adapter], kernels: Kernels
) -> ModelSource:
    """``source``, seen with ``adapters`` and in a ``type``, a mixture such as "q8_0" or "q4_k_m".

    What is quantised already stays as it is, with a note in the log; "f32" is for all floats.
    Nothing is read yet. Raises OptionError for an unknown type, ModelFileError for an adapter of
    another model; OptionError for a packed file, which stays as it is.
    """
    if isinstance(source, PackedFile) and type is not None:
        raise _packed(f"type is {type!r}", source.path)
    if adapters:
        # What is going to have another type is not rounded to its own first.
        source = Merged(source, adapters, kernels, widens=type is not None)
    if type is None:
        return source
    mix = mix_of(type)
    if mix.name == "Q2_K_S":
        raise OptionError(
            f"type is {type!r}, of no use without an importance matrix",
            hint="use Q2_K, or motet quantize with --imatrix",
        )
    if mix.type is TensorType.F32:
        types = dict.fromkeys(source.tensors, TensorType.F32)
    else:
        types = assign(source.metadata, source.tensors, mix, Wishes(), important=False)
    floats = [
        i.name for i in source.tensors.values() if i.type.block == 1 and not i.type.is_integer
    ]
    kept = sum(info.type.block > 1 for info in source.tensors.values())
    if kept:
        _log.warning(
            "%s: type %s is for float weights; %d tensors are quantised already, and stay so",
            source.path,
            mix.name,
            kept,
        )
    return Retyped(source, {name: types[name] for name in floats}, kernels)


def _packed(what: str, path: str) -> OptionError:
    return OptionError(
        f"{what}, but the weights of {path} are packed, and stay as they are",
        hint="give that to motet pack, with what the file was packed of",
    )


def with_scales(lora: Any) -> list[tuple[Path, float]]:
    """The path of each adapter, and its strength. Raises OptionError for anything else."""
    if isinstance(lora, str | PathLike) or _is_pair(lora):
        lora = [lora]
    pairs: list[tuple[Path, float]] = []
    for each in checks.listed("lora", lora, "paths, or pairs of a path and a number"):
        path, scale = each if _is_pair(each) else (each, 1.0)
        found = checks.path("lora", path, "give the path of an adapter, or (path, scale)")
        pairs.append((found, checks.number("lora's scale", scale, -_STRONGEST, _STRONGEST)))
    return pairs


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], int | float)


def _adapter(path: Path, scale: float, model: Path) -> Adapter:
    with open_adapter(path, model) as source:
        try:
            return read_adapter(source, scale)
        except MemoryError as error:
            raise CapacityError(
                f"{path}: the adapter does not fit into memory",
                hint="free some, or use a smaller one",
            ) from error
