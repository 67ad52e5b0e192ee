"""A model as it is to be loaded: with adapters merged, and its float matrices in another type."""

from collections.abc import Sequence

from motet.conversion.lora import Adapter, Merged
from motet.conversion.mixes import Wishes, assign, mix_of
from motet.conversion.retyped import Retyped
from motet.kernels.interface import Kernels
from motet.weights.source import ModelSource


def prepared(
    source: ModelSource, type: str | None, adapters: Sequence[Adapter], kernels: Kernels
) -> ModelSource:
    """``source``, seen with ``adapters`` and in a ``type``, a mixture such as "q8_0" or "q4_k_m".

    What is quantised already stays as it is. Nothing is read yet. Raises OptionError for an unknown
    type, ModelFileError for an adapter of another model.
    """
    if adapters:
        source = Merged(source, adapters, kernels)
    if type is None:
        return source
    floats = {name: info for name, info in source.tensors.items() if info.type.block == 1}
    types = assign(source.metadata, source.tensors, mix_of(type), Wishes(), important=False)
    return Retyped(source, {name: types[name] for name in floats}, kernels)
