"""Attention over what was stored before, against its definition, and the solo law inside a call."""

import numpy as np
import pytest

from motet.errors import NumericalError
from motet.kernels import CPU, PAGE, Kernels
from motet.kernels.interface import KV_TYPES, PagedKV
from motet.kernels.reference import Reference

REFERENCE = Reference()
LENGTHS = [1, 64, 130, 3, 700]
QUERIES = [2, 1, 5, 40, 3]


class Stored:
    """Keys and values of some texts in scattered pages, and queries of other sequences."""

    def __init__(
        self,
        heads: int = 4,
        kv_heads: int = 4,
        head_dim: int = 32,
        value_dim: int = 32,
        kind: str = "f32",
    ) -> None:
        rng = np.random.default_rng(1)
        self.shape = heads, kv_heads, head_dim, value_dim, kind
        width, count = -(-max(LENGTHS) // PAGE), sum(LENGTHS)
        self.tables = rng.permutation(len(LENGTHS) * width).reshape(-1, width).astype(np.int32)
        bits = np.arange(width * PAGE) < np.array(LENGTHS)[:, None]
        self.masks = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
        self.k = rng.standard_normal((count, kv_heads, head_dim)).astype(np.float32)
        self.v = rng.standard_normal((count, kv_heads, value_dim)).astype(np.float32)
        self.rows = np.repeat(np.arange(len(QUERIES), dtype=np.int32), QUERIES)
        self.q = rng.standard_normal((len(self.rows), heads, head_dim)).astype(np.float32)

    def pages(self, kernels: Kernels) -> PagedKV:
        """Everything stored, as the micro-batch that stored it has it."""
        _, kv_heads, head_dim, value_dim, kind = self.shape
        pages = kernels.allocate_pages(self.tables.size, kv_heads, head_dim, value_dim, kind)
        rows = np.repeat(np.arange(len(LENGTHS), dtype=np.int32), LENGTHS)
        at = np.concatenate([np.arange(n, dtype=np.int32) for n in LENGTHS])
        slots = self.tables[rows, at // PAGE].astype(np.int64) * PAGE + at % PAGE
        kv = PagedKV(pages, kernels.block_tables(self.tables, self.masks, rows, at, slots))
        kernels.store(self.k, self.v, kv)
        return kv

    def read(self, kernels: Kernels, kv: PagedKV, queries: np.ndarray) -> np.ndarray:
        rows = self.rows[queries]
        ends = np.array(LENGTHS, np.int32)[rows] - 1
        nowhere = np.zeros(len(rows), np.int64)
        tables = kernels.block_tables(self.tables, self.masks, rows, ends, nowhere)
        return kernels.cross_attention(self.q[queries], PagedKV(kv.pages, tables), scale=0.2)


@pytest.mark.parametrize("kind", KV_TYPES)
@pytest.mark.parametrize(
    "shape", [{}, {"heads": 8, "kv_heads": 2}, {"head_dim": 33, "value_dim": 17}, {"head_dim": 64}]
)
def test_equals_reference(cpu: CPU, shape: dict[str, int], kind: str) -> None:
    stored, every = Stored(**shape, kind=kind), np.arange(sum(QUERIES))
    expected = stored.read(REFERENCE, stored.pages(REFERENCE), every)
    got = stored.read(cpu, stored.pages(cpu), every)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_query_is_the_same_alone(cpu: CPU, threads: int) -> None:
    stored, one = Stored(), CPU(threads=threads, isa=cpu.isa)
    kv = stored.pages(cpu)
    before = {name: array.copy() for name, array in kv.pages.arrays.items()}
    together = stored.read(cpu, kv, np.arange(sum(QUERIES)))
    for query in range(sum(QUERIES)):
        assert np.array_equal(stored.read(one, kv, np.array([query]))[0], together[query])
    for name, array in kv.pages.arrays.items():  # nothing was written
        assert np.array_equal(array, before[name])


def test_what_does_not_fit_the_type_is_refused(cpu: CPU) -> None:
    stored = Stored(kind="f16")
    stored.v[70, 1, 3] = 1e5
    with pytest.raises(NumericalError, match="beyond the range of f16"):
        stored.pages(cpu)


def test_shapes_are_checked(cpu: CPU) -> None:
    stored = Stored()
    kv = stored.pages(cpu)
    with pytest.raises(ValueError, match="heads do not fit"):
        cpu.cross_attention(stored.q[:, :3], kv, scale=1.0)
    with pytest.raises(ValueError, match="token counts differ"):
        cpu.cross_attention(stored.q, kv, scale=1.0)
    with pytest.raises(ValueError, match="store: token counts differ"):
        cpu.store(stored.k[1:], stored.v[1:], kv)
    with pytest.raises(ValueError, match="store: heads do not fit"):
        cpu.store(stored.v[:, :, :5].copy(), stored.v, kv)
