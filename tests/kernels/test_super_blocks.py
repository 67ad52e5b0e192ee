"""Products with super-blocks: whole numbers inside, and the order of the roundings outside."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from motet.kernels import _cpu
from motet.kernels.reference_blocks import super_bytes
from motet.weights.formats import TensorType, dequantize
from tests.kernels.test_linear import random_raw

FUSED = [isa for isa in (*_cpu.supported(), "emulated") if isa != "baseline"]
IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
SHAPES = {
    TensorType.Q2_K: (16, np.arange(4), (0, 16), 16),
    TensorType.Q3_K: (16, np.arange(8) - 4, (-32, 32), 0),
    TensorType.Q4_K: (32, np.arange(16), (0, 64), 64),
    TensorType.Q5_K: (32, np.arange(32), (0, 64), 64),
    TensorType.Q6_K: (16, np.arange(64) - 32, (-128, 128), 0),
    TensorType.IQ4_XS: (32, IQ4, (-32, 32), 0),
}
"""Columns of a group, what a quant stands for, the range of scales, and of minima from 0 on."""
CODES = {
    TensorType.IQ1_S: (0, 8),
    TensorType.IQ1_M: (None, 8),
    TensorType.IQ2_XXS: (0, 8),
    TensorType.IQ2_XS: (0, 8),
    TensorType.IQ2_S: (0, 8),
    TensorType.IQ3_XXS: (0, 4),
    TensorType.IQ3_S: (0, 1),
    TensorType.TQ1_0: (52, 1),
    TensorType.TQ2_0: (64, 1),
}
"""Where a super-block's D is, and of how many parts of it a weight is a whole number."""
ROWS, COLUMNS = 37, 512
GREATEST = "greatest"


def whole_numbers(type: TensorType, kind: str) -> tuple[np.ndarray, ...]:
    """Quants and scales of a matrix: any, or those that give the greatest sums."""
    size, values, (low, high), minima = SHAPES[type]
    groups = ROWS * COLUMNS // size
    rng = np.random.default_rng(7)
    d, m = (rng.uniform(-0.01, 0.01, ROWS * COLUMNS // 256).astype(np.float16) for _ in range(2))
    if kind == GREATEST:
        q, s, t = np.argmax(abs(values)), low if low < -1 else high - 1, max(0, minima - 1)
        return np.full((size, groups), q), d, m, np.full(groups, s), np.full(groups, t)
    q = rng.integers(0, len(values), (size, groups))
    return q, d, m, rng.integers(low, high, groups), rng.integers(0, max(1, minima), groups)


def blocks(type: TensorType, kind: str) -> np.ndarray:
    q, d, m, s, t = whole_numbers(type, kind)
    each = 256 // SHAPES[type][0]
    heads = [np.repeat(x, each).astype(np.float32) for x in (d, m)]
    least = t.astype(np.float32) if SHAPES[type][3] else None
    raw = super_bytes(
        type, q.astype(np.uint8), heads[0], heads[1] if SHAPES[type][3] else None,
        s.astype(np.float32), least,
    )  # fmt: skip
    return np.ascontiguousarray(raw.reshape(ROWS, -1))


def activations(tokens: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers that are rounded to whole ones known before, those, and their scales."""
    rng = np.random.default_rng(8)
    a = rng.integers(-127, 128, (tokens, COLUMNS // 256, 256))
    a[..., 5] = -128
    if kind == GREATEST:
        a[:] = -128
    e = rng.uniform(0.001, 0.1, (tokens, COLUMNS // 256)).astype(np.float32)
    x = a.astype(np.float32) * e[..., None]
    return x.reshape(tokens, COLUMNS), a, e


def rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)


def by_definition(type: TensorType, kind: str, a: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Sums of long doubles hold a product of two float32 and another exactly enough."""
    size, values, _, minima = SHAPES[type]
    q, d, m, s, t = whole_numbers(type, kind)
    w = np.transpose(values[q]).reshape(ROWS, COLUMNS // 256, 256 // size, size)
    shape = (ROWS, COLUMNS // 256)
    d, m = d.astype(np.float32).reshape(shape), m.astype(np.float32).reshape(shape)
    s, t = s.reshape(*shape, -1), t.reshape(*shape, -1)
    a = a.reshape(len(a), COLUMNS // 256, 256 // size, size)
    out = np.zeros((len(a), ROWS), np.float32)
    for u in range(COLUMNS // 256):
        whole = np.einsum("rg,rgi,tgi->tr", s[:, u], w[:, u], a[:, u])
        least = np.einsum("rg,tgi->tr", t[:, u], a[:, u])
        assert max(abs(whole).max(), abs(least).max()) < 2**28
        value = rounded(d[:, u] * rounded(whole))
        if minima:
            value = rounded(value - m[:, u].astype(np.longdouble) * rounded(least))
        out = rounded(e[:, u, None].astype(np.longdouble) * value + out)
    return out


def native_of(isa: str) -> Any:
    if isa == "emulated" and "avx512" not in _cpu.supported():
        pytest.skip("the emulation needs AVX-512")
    try:
        return import_module(f"motet.kernels._{isa}")
    except ImportError:
        pytest.skip("built without MOTET_EMULATE_TILES (make test builds with it)")


def products(native: Any, type: TensorType, raw: np.ndarray, x: np.ndarray) -> np.ndarray:
    pool = native.ThreadPool(1)
    matrix = native.Matrix(native.Arena(), int(type), ROWS, COLUMNS)
    native.pack(pool, matrix, raw, 0)
    out = np.full((len(x), ROWS), np.nan, np.float32)
    native.linear(pool, x, [matrix], [], [out])
    return out


@pytest.mark.parametrize("kind", ["any", GREATEST])
@pytest.mark.parametrize("isa", FUSED)
@pytest.mark.parametrize("type", sorted(SHAPES), ids=lambda t: t.name)
def test_the_sums_are_as_defined(type: TensorType, isa: str, kind: str) -> None:
    native = native_of(isa)
    raw = blocks(type, kind)
    weights = dequantize(raw, type).reshape(ROWS, COLUMNS)
    for tokens in (1, 2, 4, 8, 35):
        x, a, e = activations(tokens, kind)
        out = products(native, type, raw, x)
        assert np.array_equal(out, by_definition(type, kind, a, e)), tokens
        exact = x.astype(np.float64) @ weights.T.astype(np.float64)
        assert np.abs(out - exact).max() <= 1e-5 * np.abs(exact).max()


def scale_of(raw: np.ndarray, type: TensorType) -> np.ndarray:
    """D of each super-block, ``[rows, super-blocks]``."""
    at, parts = CODES[type]
    each = raw.reshape(ROWS, -1, type.block_bytes)
    if at is None:
        words = (each[:, :, 48:].copy().view(np.uint16) >> 12) << np.arange(0, 16, 4).astype(
            np.uint16
        )
        half = words.sum(axis=2, dtype=np.uint16).view(np.float16)
    else:
        half = each[:, :, at : at + 2].copy().view(np.float16)[..., 0]
    return half.astype(np.float32) / np.float32(parts)


@pytest.mark.parametrize("isa", FUSED)
@pytest.mark.parametrize("type", sorted(CODES), ids=lambda t: t.name)
def test_sums_of_weights_in_codes_are_as_defined(type: TensorType, isa: str) -> None:
    native, raw = native_of(isa), random_raw(type, ROWS, COLUMNS)
    d = scale_of(raw, type)
    weights = dequantize(raw, type).reshape(*d.shape, 256).astype(np.float64)
    whole = np.rint(weights / d[..., None]).astype(np.int64)
    assert np.array_equal(whole * d[..., None].astype(np.float64), weights)
    for tokens in (1, 2, 3, 4, 8, 35):
        x, a, e = activations(tokens, "any")
        expected = np.zeros((tokens, ROWS), np.float32)
        for u in range(COLUMNS // 256):
            sums = np.einsum("ri,ti->tr", whole[:, u], a[:, u])
            assert abs(sums).max() < 2**28
            value = rounded(d[:, u] * rounded(sums))
            expected = rounded(e[:, u, None].astype(np.longdouble) * value + expected)
        assert np.array_equal(products(native, type, raw, x), expected), tokens
