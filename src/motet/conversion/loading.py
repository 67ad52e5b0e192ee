"""A model as it is to be loaded: with adapters merged, and its float matrices in another type."""

import logging
from collections.abc import Sequence

from motet.conversion.lora import Adapter, Merged
from motet.conversion.mixes import Wishes, assign, mix_of
from motet.conversion.retyped import Retyped
from motet.errors import OptionError
from motet.kernels.interface import Kernels
from motet.weights.formats import TensorType
from motet.weights.source import ModelSource

_log = logging.getLogger("motet")


def prepared(
    source: ModelSource, type: str | None, adapters: Sequence[Adapter], kernels: Kernels
) -> ModelSource:
    """``source``, seen with ``adapters`` and in a ``type``, a mixture such as "q8_0" or "q4_k_m".

    What is quantised already stays as it is, with a note in the log; "f32" is for all floats.
    Nothing is read yet. Raises OptionError for an unknown type, ModelFileError for an adapter of
    another model.
    """
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
