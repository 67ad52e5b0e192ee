"""NVFP4: blocks with a float of eight bits for each 16 weights, and a scale of all of a matrix."""

import numpy as np
import pytest

from motet.kernels import CPU
from motet.kernels.reference import Reference
from motet.weights.formats import TensorType, dequantize
from tests.kernels.recurrent_cases import normal
from tests.kernels.test_linear import random_raw

NVFP4 = TensorType.NVFP4
REFERENCE = Reference()
ROWS, COLUMNS = 37, 192


def test_every_scale_and_every_value(cpu: CPU) -> None:
    """Those that no converter writes as well: 0x7f, which counts as 0, and with the highest bit."""
    raw = np.empty((64, 4, 36), np.uint8)
    raw[:, :, :4] = np.arange(256).reshape(64, 1, 4)
    nibbles = np.arange(16, dtype=np.uint8)
    for turn in range(4):
        codes = np.roll(nibbles, turn)
        raw[:, turn, 4:] = np.tile(codes[:8] | codes[8:] << 4, 4)
    raw = raw.reshape(64, -1)
    values = dequantize(raw, NVFP4)
    assert len(np.unique(np.abs(values))) > 200
    got = cpu.embedding(cpu.pack(raw, NVFP4, 64, 256), np.arange(64, dtype=np.int32))
    assert np.array_equal(got, values)


def test_the_sums_are_as_defined(cpu: CPU) -> None:
    """Of a block both groups' whole sums with their scales, then the activations' scale."""
    if cpu.isa == "baseline":
        pytest.skip("has no fused multiply-add, and rounds twice")
    raw = random_raw(NVFP4, ROWS, COLUMNS)
    groups = raw.reshape(ROWS, -1, 36)[:, :, :4].reshape(ROWS, -1)
    d = (groups & 7 | 8).astype(np.float64) * 2.0 ** ((groups >> 3) - 11.0)
    d = np.where(groups < 8, (groups & 7) * 2.0**-10, d)
    weights = dequantize(raw, NVFP4).reshape(ROWS, -1, 16).astype(np.float64)
    whole = weights / np.where(d == 0, 1, d)[..., None]
    assert np.array_equal(whole, np.rint(whole))
    assert np.array_equal(whole[d > 0] * d[d > 0][:, None], weights[d > 0])
    a = np.random.default_rng(8).integers(-127, 128, (35, COLUMNS // 32, 32))
    a[..., 5] = -128
    e = np.random.default_rng(9).uniform(0.001, 0.1, a.shape[:2]).astype(np.float32)
    x = (a.astype(np.float32) * e[..., None]).reshape(35, COLUMNS)
    sums = np.einsum("rgi,tgi->trg", whole, a.reshape(35, -1, 16))
    expected = np.zeros((35, ROWS), np.float32)
    for b in range(COLUMNS // 32):
        first = (d[:, 2 * b] * sums[..., 2 * b]).astype(np.float32)
        second = d[:, 2 * b + 1].astype(np.longdouble) * sums[..., 2 * b + 1]
        value = (second + first).astype(np.float32)
        expected = (e[:, b, None].astype(np.longdouble) * value + expected).astype(np.float32)
    weight = cpu.pack(raw, NVFP4, ROWS, COLUMNS)
    for tokens in (1, 2, 4, 8, 35):
        assert np.array_equal(cpu.linear(x[:tokens], weight)[0], expected[:tokens]), tokens


@pytest.mark.parametrize("scale", [0.37, -3e-5])
@pytest.mark.parametrize(
    "type", [NVFP4, TensorType.Q4_K, TensorType.F32, TensorType.TQ2_0], ids=lambda t: t.name
)
def test_a_scale_multiplies_once(cpu: CPU, type: TensorType, scale: float) -> None:
    raw, bias = random_raw(type, ROWS, 256), normal(ROWS)
    plain, scaled = cpu.pack(raw, type, ROWS, 256), cpu.pack(raw, type, ROWS, 256, scale)
    again = cpu.packed_matrix(cpu.packed_data(plain), type, ROWS, 256, scale)
    ids = np.array([5, 36, 0], np.int32)
    once = np.float32(scale)
    for tokens in (1, 3, 40):
        x = normal(tokens, 256)
        (expected,) = cpu.linear(x, plain)
        expected *= once
        for weight in (scaled, again):
            assert np.array_equal(cpu.linear(x, weight)[0], expected)
            added = cpu.linear(x, weight, biases=[bias])[0]
            assert np.array_equal(added, expected + bias)
    for weight in (scaled, again):
        assert np.array_equal(cpu.embedding(weight, ids), cpu.embedding(plain, ids) * once)
    reference = REFERENCE.pack(raw, type, ROWS, 256, scale)
    (y,) = REFERENCE.linear(x, reference)
    np.testing.assert_allclose(expected, y, atol=1e-5 * np.abs(y).max())
    np.testing.assert_allclose(
        cpu.embedding(scaled, ids), REFERENCE.embedding(reference, ids), rtol=2e-6
    )


def test_experts_have_scales_of_their_own(cpu: CPU) -> None:
    scales = [0.5, 3.0, -0.07]
    ids, weights = np.array([[0, 2], [1, 0]], np.int32), np.array([[0.75, 0.25]] * 2, np.float32)
    x = normal(2, 64)

    def packed(kernels: CPU | Reference) -> tuple[list, list, list]:
        def each(seed: int) -> list:
            raws = [random_raw(NVFP4, 64, 64, seed + e) for e in range(len(scales))]
            pairs = zip(raws, scales, strict=True)
            return [kernels.pack(raw, NVFP4, 64, 64, scale) for raw, scale in pairs]

        return each(0), each(3), each(6)

    gate, up, down = packed(cpu)
    got = cpu.experts(x, ids, weights, gate, up, down, "silu")
    expected = REFERENCE.experts(x, ids, weights, *packed(REFERENCE), "silu")
    np.testing.assert_allclose(got, expected, atol=2e-3 * np.abs(expected).max())
    total = np.zeros((2, 64), np.float32)
    for token in range(2):
        row = x[token : token + 1]
        for e, weight in zip(ids[token], weights[token], strict=True):
            gates, ups = cpu.linear(row, gate[e], up[e])
            inner = cpu.gated(gates, ups, "silu")
            total[token] += weight * cpu.linear(inner, down[e])[0][0]
    np.testing.assert_allclose(total, got, rtol=1e-6, atol=1e-6 * np.abs(got).max())
