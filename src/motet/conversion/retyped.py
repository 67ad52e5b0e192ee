"""A model whose tensors have other types: converted as they are read, with no copy in between."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from motet.arrays import Float32, UInt8
from motet.errors import NumericalError
from motet.kernels.interface import Kernels
from motet.weights.formats import TensorType, dequantize
from motet.weights.source import ChangedSource, MetadataValue, ModelSource

Importance = Mapping[str, Float32]
"""How much each column of a tensor matters, ``[matrices, columns]`` float32, by the tensor's name.

One row for each matrix of a tensor of three axes (experts, heads), else one alone."""

_CHUNK = 1 << 20
"""Values that are converted at once: floats that stay in the processor's cache."""


class Retyped(ChangedSource):
    """``source`` with the tensors in ``types`` in another type; it closes the source.

    ``importance``: what quantising weighs errors by, for tensors that it has. ``metadata``: takes
    the place of the source's.
    """

    def __init__(
        self,
        source: ModelSource,
        types: Mapping[str, TensorType],
        kernels: Kernels,
        importance: Importance | None = None,
        metadata: Mapping[str, MetadataValue] | None = None,
    ) -> None:
        super().__init__(source)
        self._kernels = kernels
        self._importance = importance or {}
        self._read, self._floats = np.empty(0, np.uint8), np.empty(0, np.float32)
        """Used again and again, so that they stay in the processor's cache."""
        if metadata is not None:
            self.metadata = dict(metadata)
            self.metadata_types = {
                key: type
                for key, type in source.metadata_types.items()
                if metadata.get(key) is source.metadata.get(key)
            }
        self.tensors = {
            name: replace(info, type=types.get(name, info.type))
            for name, info in source.tensors.items()
        }
        self.nbytes = sum(info.nbytes for info in self.tensors.values())

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        """As a ModelSource does; NumericalError too, for a value that the type cannot hold."""
        if name not in self.tensors:
            raise self.missing(name)
        before, info = self._source.tensors[name], self.tensors[name]
        if info.type is before.type:
            return self._source.read_rows(name, first, last, buffer)
        size = (last - first) * info.row_bytes
        out = np.empty(size, np.uint8) if buffer is None else buffer[:size]
        out = out.reshape(last - first, info.row_bytes)
        importance = self._importance.get(name)
        # Rows that share a row of importance.
        span = info.rows if importance is None else info.rows // len(importance)
        step, start = max(1, _CHUNK // info.columns), first
        while start < last:
            stop = min(start + step, last, (start // span + 1) * span)
            values = self._widened(name, start, stop)
            weights = None if importance is None else importance[start // span]
            try:
                rows = self._kernels.quantize(values, info.type, weights)
            except NumericalError as error:
                place = f"{self.path}: tensor {name}, rows from {start}"
                raise NumericalError(f"{place}: {error.message}", hint=error.hint) from error
            out[start - first : stop - first] = rows
            start = stop
        return out

    def _widened(self, name: str, first: int, last: int) -> Float32:
        """Rows as float32, until the next ones are read."""
        info = self._source.tensors[name]
        size = (last - first) * info.row_bytes
        if len(self._read) < size:
            self._read = np.empty(size, np.uint8)
        raw = self._source.read_rows(name, first, last, self._read)
        if info.type is TensorType.F32:
            return raw.view(np.float32)
        if info.type not in (TensorType.F16, TensorType.BF16):
            return dequantize(raw, info.type)
        count = (last - first) * info.columns
        if len(self._floats) < count:
            self._floats = np.empty(count, np.float32)
        values = self._floats[:count].reshape(-1, info.columns)
        if info.type is TensorType.F16:
            np.copyto(values, raw.view(np.float16))
        else:
            words = values.view(np.uint32)
            np.copyto(words, raw.view(np.uint16))
            words <<= 16
        return values
