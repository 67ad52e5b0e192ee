"""A model that stands in memory."""

from collections.abc import Mapping

import numpy as np

from motet.weights.formats import TensorType
from motet.weights.source import MetadataValue, ModelSource, TensorInfo, ValueType

_TYPES = {np.dtype(np.float32): TensorType.F32, np.dtype(np.float16): TensorType.F16}


class ArraySource(ModelSource):
    """Arrays of float32 and float16 as a ModelSource. ``reads``: how often rows were read."""

    format = "arrays"
    files = 0

    def __init__(
        self, metadata: Mapping[str, MetadataValue], arrays: Mapping[str, np.ndarray]
    ) -> None:
        self.path = "arrays"
        self.metadata = dict(metadata)
        self.metadata_types: dict[str, ValueType] = {}
        self.tensors = {
            name: TensorInfo(name, array.shape, _TYPES[array.dtype])
            for name, array in arrays.items()
        }
        self.nbytes = sum(info.nbytes for info in self.tensors.values())
        self.reads = 0
        self.changed: Exception | None = None
        self._arrays = arrays

    def raw(self, name: str) -> np.ndarray:
        info = self.tensors[name]
        return np.frombuffer(self._arrays[name].tobytes(), np.uint8).reshape(info.rows, -1)

    def read_rows(self, name, first, last, buffer=None) -> np.ndarray:
        self.reads += 1
        return self.raw(name)[first:last]

    def require_unchanged(self) -> None:
        if self.changed is not None:
            raise self.changed

    def close(self) -> None:
        pass
