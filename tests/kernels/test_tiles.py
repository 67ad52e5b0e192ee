"""The matrix unit's kernels, with its instructions emulated, against the AVX-512 ones."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from motet.kernels import _cpu
from motet.kernels.cpu_weights import PACKED_BITS
from motet.weights.formats import TensorType
from tests.kernels.test_linear import random_raw


def product(native: Any, raw: np.ndarray, type: TensorType, rows: int, x: np.ndarray) -> np.ndarray:
    pool = native.ThreadPool(2)
    weight = native.Matrix(native.Arena(), int(type), rows, x.shape[1])
    native.pack(pool, weight, raw, 0)
    out = np.empty((len(x), rows), np.float32)
    native.linear(pool, x, [weight], [], [out])
    return out


@pytest.mark.skipif("avx512" not in _cpu.supported(), reason="the emulation needs AVX-512")
@pytest.mark.parametrize("type", sorted(PACKED_BITS), ids=lambda t: t.name)
@pytest.mark.parametrize(("rows", "columns", "tokens"), [(70, 768, 100), (16, 256, 32)])
def test_tiles_equal_vectors_bit_for_bit(
    type: TensorType, rows: int, columns: int, tokens: int
) -> None:
    try:
        emulated = import_module("motet.kernels._emulated")
    except ImportError:
        pytest.skip("built without MOTET_EMULATE_TILES (make test builds with it)")
    raw = random_raw(type, rows, columns)
    x = np.random.default_rng(2).standard_normal((tokens, columns)).astype(np.float32)
    vectors = import_module("motet.kernels._avx512")
    assert np.array_equal(
        product(emulated, raw, type, rows, x), product(vectors, raw, type, rows, x)
    )
