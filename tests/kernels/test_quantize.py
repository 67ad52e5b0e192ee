"""Quantising: the native kernels against the definition, and both against gguf's."""

import gguf
import numpy as np
import pytest

from motet.errors import NumericalError, OptionError, UnsupportedError
from motet.kernels import CPU
from motet.kernels.quantizing import QUANTIZED_TYPES
from motet.kernels.reference import Reference
from motet.weights.formats import TensorType, dequantize, row_bytes

REFERENCE = Reference()
TYPES = sorted(QUANTIZED_TYPES)
ROUNDED = [t for t in TYPES if t.name in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")]
"""Types whose bytes are GGML's, where there is no importance."""


def normal(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def awkward(columns: int) -> np.ndarray:
    """Rows of what is easily rounded wrong."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, (40, columns), dtype=np.uint64).astype(np.uint32)
    anything = bits.view(np.float32).copy()
    anything[~(np.abs(anything) < 65504)] = 1
    anything[np.abs(anything) < 1e-36] = 0  # a scale that is subnormal: undefined in GGML
    sparse = normal(20, columns)
    sparse[rng.random(sparse.shape) < 0.8] = 0
    sparse[rng.random(sparse.shape) < 0.3] *= -0.0
    parts: list[np.ndarray] = [
        anything,
        sparse,
        rng.integers(-256, 257, (40, columns)).astype(np.float32) / 2,  # ties
        rng.integers(-8, 8, (40, columns)).astype(np.float32),
        *(np.ldexp(normal(4, columns), e) for e in (-100, -30, -24, -20, -14, 12)),
        rng.standard_t(2, (20, columns)).clip(-65504, 65504),
        np.zeros((1, columns)),
        -np.zeros((1, columns)),
        np.full((2, columns), 0.37),
        np.full((2, columns), -0.37),
    ]
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("type", TYPES, ids=lambda t: t.name)
@pytest.mark.parametrize("important", [False, True])
def test_native_equals_reference(cpu: CPU, type: TensorType, important: bool) -> None:
    importance = None
    if important:
        importance = np.random.default_rng(2).gamma(0.3, 2, 768).astype(np.float32)
        importance[100:400] = 0
    for values in (awkward(768), normal(3, 768), normal(1, 768)):
        expected = REFERENCE.quantize(values, type, importance)
        assert expected.shape == (len(values), row_bytes(type, 768))
        assert np.array_equal(cpu.quantize(values, type, importance), expected)


@pytest.mark.parametrize("type", TYPES, ids=lambda t: t.name)
def test_rows_and_threads_change_nothing(cpu: CPU, type: TensorType) -> None:
    values = normal(300, 256)
    together = cpu.quantize(values, type)
    three = CPU(threads=3, isa=cpu.isa)
    assert np.array_equal(three.quantize(values, type), together)
    for row in (0, 7, 299):
        assert np.array_equal(cpu.quantize(values[row : row + 1], type)[0], together[row])


@pytest.mark.parametrize("type", ROUNDED, ids=lambda t: t.name)
def test_rounds_as_gguf_does(type: TensorType) -> None:
    # No −0: gguf's choice among equals is another than GGML's, which is ours.
    values = np.concatenate([normal(30, 320), awkward(320)]) + np.float32(0)
    with np.errstate(all="ignore"):
        expected = gguf.quants.quantize(values, gguf.GGMLQuantizationType(type))
    assert np.array_equal(REFERENCE.quantize(values, type), expected.view(np.uint8))


@pytest.mark.parametrize("columns", [1, 7, 33])
def test_float_types_of_any_width(cpu: CPU, columns: int) -> None:
    values = normal(5, columns)
    for type in (TensorType.F32, TensorType.F16, TensorType.BF16):
        got = cpu.quantize(values, type)
        assert np.array_equal(got, REFERENCE.quantize(values, type))
        assert np.allclose(dequantize(got, type), values, rtol=2**-8)


def test_no_rows(cpu: CPU) -> None:
    assert cpu.quantize(np.zeros((0, 256), np.float32), TensorType.Q8_0).shape == (0, 272)


def test_float_types_hold_what_is_not_finite(cpu: CPU) -> None:
    bits = [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF]
    values = np.array([bits], np.uint32).view(np.float32)
    for type in (TensorType.F32, TensorType.F16, TensorType.BF16):
        got = cpu.quantize(values, type)
        assert np.array_equal(got, REFERENCE.quantize(values, type))
        assert np.array_equal(dequantize(got, type), values, equal_nan=True)


@pytest.mark.parametrize("type", TYPES, ids=lambda t: t.name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65520.0, -3.4e38])
def test_what_a_type_cannot_hold_is_refused(cpu: CPU, type: TensorType, value: float) -> None:
    values = normal(70, 768)
    values[41, 700] = values[60, 3] = value
    held = {TensorType.F32: True, TensorType.F16: not np.isfinite(value)}
    if held.get(type, type == TensorType.BF16 and value != np.float32(-3.4e38)):
        cpu.quantize(values, type)
        return
    for kernels in (cpu, REFERENCE):
        with pytest.raises(NumericalError, match="row 41, column 700"):
            kernels.quantize(values, type)


def test_what_cannot_be_quantised_is_refused(cpu: CPU) -> None:
    values = normal(2, 96)
    for kernels in (cpu, REFERENCE):
        with pytest.raises(UnsupportedError, match="whole number"):
            kernels.quantize(values[:, :95].copy(), TensorType.Q4_0)
        with pytest.raises(UnsupportedError, match="does not quantise to IQ2_S"):
            kernels.quantize(values, TensorType.IQ2_S)
        for importance in (np.ones(95, np.float32), -np.ones(96, np.float32)):
            with pytest.raises(OptionError, match="importance"):
                kernels.quantize(values, TensorType.Q4_0, importance)
        with pytest.raises(OptionError, match="column 5 is nan"):
            broken = np.ones(96, np.float32)
            broken[5] = np.nan
            kernels.quantize(values, TensorType.Q4_0, broken)
