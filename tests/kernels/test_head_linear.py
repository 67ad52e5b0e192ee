"""Matrices of each head, against their definition and against ``linear``."""

import numpy as np
import pytest

from motet.kernels import CPU
from motet.kernels.reference import Reference
from motet.weights.formats import TensorType
from tests.kernels.recurrent_cases import normal
from tests.kernels.test_linear import random_raw

REFERENCE = Reference()
HEADS, COLUMNS, ROWS, BEFORE = 5, 64, 37, 6


def matrices(kernels: CPU | Reference, type: TensorType, columns: int = COLUMNS) -> list:
    raws = [random_raw(type, ROWS, columns, seed) for seed in range(HEADS)]
    return [kernels.pack(raw, type, ROWS, columns) for raw in raws]


def parts(tokens: int, columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    """What is multiplied and what comes before, as they lie in one array."""
    wide = normal(tokens, HEADS, columns + BEFORE)
    return wide[..., :columns], wide[..., columns:]


@pytest.mark.parametrize("type", [TensorType.F32, TensorType.F16, TensorType.Q4_0, TensorType.Q8_0])
@pytest.mark.parametrize("tokens", [0, 1, 2, 33, 100])
def test_equals_reference_and_linear(cpu: CPU, type: TensorType, tokens: int) -> None:
    (x, before), own = parts(tokens), matrices(cpu, type)
    got = cpu.head_linear(x, own, before)
    assert got.shape == (tokens, HEADS, BEFORE + ROWS)
    expected = REFERENCE.head_linear(x, matrices(REFERENCE, type), before)
    np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max(initial=1))
    assert np.array_equal(got[..., :BEFORE], before)
    for head, weight in enumerate(own):
        (alone,) = cpu.linear(x[:, head].copy(), weight)
        assert np.array_equal(got[:, head, BEFORE:], alone)
    assert np.array_equal(cpu.head_linear(x.copy(), own), got[..., BEFORE:])


@pytest.mark.parametrize("type", [TensorType.F32, TensorType.Q4_0])
def test_a_token_is_the_same_alone_and_among_others(cpu: CPU, type: TensorType) -> None:
    (x, before), own = parts(70), matrices(cpu, type)
    together = cpu.head_linear(x, own, before)
    one_thread = CPU(threads=1, isa=cpu.isa)
    for first, last in ((0, 1), (7, 9), (3, 70)):
        part = one_thread.head_linear(x[first:last], own, before[first:last])
        assert np.array_equal(part, together[first:last])
    if cpu.isa == "avx512":
        avx2 = CPU(threads=1, isa="avx2")
        assert np.array_equal(avx2.head_linear(x, matrices(avx2, type), before), together)


def test_any_width_of_float_weights(cpu: CPU) -> None:
    for columns in (1, 7, 33):
        x, _ = parts(3, columns)
        expected = REFERENCE.head_linear(x, matrices(REFERENCE, TensorType.F32, columns))
        got = cpu.head_linear(x, matrices(cpu, TensorType.F32, columns))
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_what_does_not_fit_is_refused(cpu: CPU) -> None:
    (x, before), own = parts(4), matrices(cpu, TensorType.F32)
    other = [*own[:-1], *matrices(cpu, TensorType.F32, 32)[:1]]
    for wrong in ((x, own[:-1], before), (x[..., :32], own, before), (x, other, before)):
        with pytest.raises(ValueError, match="matri"):
            cpu.head_linear(*wrong)
    for wrong in (before[:3], before[:, :2]):
        with pytest.raises(ValueError, match="other heads"):
            cpu.head_linear(x, own, wrong)
    with pytest.raises(ValueError, match="follow each other"):
        cpu.head_linear(normal(4, HEADS, 2 * COLUMNS)[..., ::2], own)
