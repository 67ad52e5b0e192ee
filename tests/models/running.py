"""Running a family without Context: one sequence, its pages in order."""

from pathlib import Path
from typing import Any

import numpy as np

from motet.kernels import PAGE, Kernels
from motet.kernels.interface import KVPages, PagedKV
from motet.kernels.interface_recurrent import RecurrentState, Runs
from motet.models.family import Family
from motet.models.registry import declared
from motet.models.tensors import TensorLoader
from motet.spec import CacheSpec, Recurrent
from motet.weights.gguf import GGUFFile


class OneSequence:
    """A sequence's memory, and the view of each micro-batch that continues it."""

    def __init__(self, family: Family, capacity: int, kind: str = "f32") -> None:
        self.family = family
        self.kernels: Kernels = family.kernels
        self.pages = -(-capacity // PAGE)
        self.kept = [[self._memory(spec, kind) for spec in specs] for specs in family.caches]
        self.table = np.arange(self.pages, dtype=np.int32)[None]
        self.length = 0

    def _memory(self, spec: CacheSpec, kind: str) -> KVPages | tuple[np.ndarray, ...]:
        if isinstance(spec, Recurrent):
            return tuple(np.full((2, *shape), np.nan, np.float32) for shape in spec.shapes)
        return self.kernels.allocate_pages(
            self.pages, spec.kv_heads, spec.head_dim, spec.value_dim, kind
        )

    def feed(self, tokens: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
        """Logits of the wanted rows (all, if not said) of tokens that continue the sequence."""
        count = len(tokens)
        self.positions = np.arange(self.length, self.length + count, dtype=np.int32)
        self.length += count
        if wanted is None:
            wanted = np.arange(count, dtype=np.int64)
        family: Any = self.family
        return family.head(family.forward(tokens.astype(np.int32), self, wanted))

    def cache(self, layer: int, k: int = 0) -> PagedKV | RecurrentState:
        kept = self.kept[layer][k]
        return RecurrentState(kept, self._runs()) if isinstance(kept, tuple) else self._paged(kept)

    def _runs(self) -> Runs:
        """One run, that goes on from slot 1 in place; from zeros where the sequence begins."""
        count = len(self.positions)
        return Runs(
            order=np.arange(count, dtype=np.int32),
            starts=np.array([0, count], np.int32),
            read=np.array([1 if self.positions[0] else -1], np.int32),
            write=np.array([1], np.int32),
        )

    def _paged(self, pages: KVPages) -> PagedKV:
        bits = np.arange(self.pages * PAGE).reshape(self.pages, PAGE) < self.length
        weights = np.uint64(1) << np.arange(PAGE, dtype=np.uint64)
        masks = (bits * weights).sum(axis=1, dtype=np.uint64)[None]
        rows, slots = np.zeros(len(self.positions), np.int32), self.positions.astype(np.int64)
        tables = self.kernels.block_tables(self.table, masks, rows, self.positions, slots)
        return PagedKV(pages, tables)


def open_family(path: Path, kernels: Any) -> Family:
    """A file's family on the given kernels, without tokenizer."""
    with GGUFFile.open(path) as file:
        declaration = declared(file)
        return type(declaration)(declaration.config, TensorLoader(file, kernels), kernels)


def logits(path: Path, kernels: Any, tokens: np.ndarray, kind: str = "f32") -> np.ndarray:
    """Logits of every token of one sequence, in one go."""
    family = open_family(path, kernels)
    return OneSequence(family, len(tokens), kind).feed(tokens)
