"""Tensors of safetensors files as a source under GGUF's names."""

from collections.abc import Iterable, Mapping

from motet.arrays import UInt8
from motet.huggingface.tensors import Weights
from motet.weights.open_file import OpenFile
from motet.weights.source import ModelSource, TensorInfo


class Checkpoint(ModelSource):
    """``weights`` by GGUF's names, read from ``files``, which it closes. It has no metadata yet."""

    def __init__(
        self, path: str, weights: Mapping[str, Weights], files: Iterable[OpenFile]
    ) -> None:
        self.path = path
        self.tensors = {name: TensorInfo(name, w.shape, w.type) for name, w in weights.items()}
        self.metadata_types = {}
        self._weights = weights
        self._files = {file.path: file for file in files}
        self.files = len(self._files)
        self.nbytes = sum(file.size for file in self._files.values())

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        if name not in self._weights:
            raise self.missing(name)
        return self._weights[name].read(first, last, buffer)

    def require_unchanged(self) -> None:
        for file in self._files.values():
            file.require_unchanged()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
