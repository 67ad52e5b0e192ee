"""Quantising: the native kernels against the definition, and both against gguf's."""

from functools import cache

import gguf
import numpy as np
import pytest

from motet.errors import NumericalError, OptionError, UnsupportedError
from motet.kernels import CPU
from motet.kernels.quantizing import QUANTIZED_TYPES, UNSEARCHED
from motet.kernels.reference import Reference
from motet.weights.formats import TensorType, dequantize, row_bytes

REFERENCE = Reference()
TYPES = sorted(QUANTIZED_TYPES)
ROUNDED = [t for t in TYPES if t.name in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")]
ROUNDED += [TensorType.TQ1_0, TensorType.TQ2_0, TensorType.MXFP4]
"""Types whose bytes are GGML's, where there is no importance."""
SEARCHED = sorted(QUANTIZED_TYPES - UNSEARCHED)
"""Types that are searched for, some of them only by an importance."""


def normal(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def awkward(columns: int) -> np.ndarray:
    """Rows of what is easily rounded wrong."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, (12, columns), dtype=np.uint64).astype(np.uint32)
    anything = bits.view(np.float32).copy()
    anything[~(np.abs(anything) < 65504)] = 1
    anything[np.abs(anything) < 1e-36] = 0  # a scale that is subnormal: undefined in GGML
    sparse = normal(8, columns)
    sparse[rng.random(sparse.shape) < 0.8] = 0
    sparse[rng.random(sparse.shape) < 0.3] *= -0.0
    parts: list[np.ndarray] = [
        anything,
        sparse,
        rng.integers(-256, 257, (12, columns)).astype(np.float32) / 2,  # ties
        rng.integers(-8, 8, (12, columns)).astype(np.float32),
        *(np.ldexp(normal(2, columns), e) for e in (-100, -30, -24, -20, -14, 12)),
        rng.standard_t(2, (8, columns)).clip(-65504, 65504),
        np.zeros((1, columns)),
        -np.zeros((1, columns)),
        np.full((2, columns), 0.37),
        np.full((2, columns), -0.37),
        *(np.full((1, columns), np.nextafter(np.float32(2.0**e), 0)) for e in (-7, 0, 3, 10)),
    ]
    return np.concatenate(parts).astype(np.float32)


def important(columns: int) -> np.ndarray:
    importance = np.random.default_rng(2).gamma(0.3, 2, columns).astype(np.float32)
    importance[100:400] = 0
    return importance


@cache
def expected(type: TensorType, by_importance: bool) -> np.ndarray:
    """What the definition makes of ``awkward(768)``."""
    return REFERENCE.quantize(awkward(768), type, important(768) if by_importance else None)


@pytest.mark.parametrize("type", TYPES, ids=lambda t: t.name)
@pytest.mark.parametrize("by_importance", [False, True])
def test_native_equals_reference(cpu: CPU, type: TensorType, by_importance: bool) -> None:
    values, importance = awkward(768), important(768) if by_importance else None
    got = cpu.quantize(values, type, importance)
    assert got.shape == (len(values), row_bytes(type, 768))
    assert np.array_equal(got, expected(type, by_importance))
    for rows in (1, 3):
        alone = cpu.quantize(values[-rows:], type, importance)
        assert np.array_equal(alone, got[-rows:])


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
    columns = max(320, 2 * type.block)
    values = np.concatenate([normal(30, columns), awkward(columns)]) + np.float32(0)
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
    finite = bool(np.isfinite(value))
    held = {TensorType.F32: True, TensorType.F16: not finite, TensorType.MXFP4: finite}
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


def fixed_values(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values like weights, and an importance."""
    rng = np.random.default_rng(7)
    draw = rng.standard_normal((32, 1024)), rng.standard_t(3, (32, 1024))
    values = draw[name == "heavy"].astype(np.float32) * np.float32(0.02)
    return values, rng.gamma(0.7, 1, 1024).astype(np.float32) + np.float32(1e-3)


def error_of(values: np.ndarray, raw: np.ndarray, type: TensorType, weight: np.ndarray) -> float:
    error = np.square(dequantize(raw, type).reshape(values.shape) - values, dtype=np.float64)
    return float(np.sqrt((weight * error).mean() / weight.mean(dtype=np.float64)))


LLAMA_CPP = {
    "Q4_0": (1.718943e-03, 1.538010e-03, 4.354270e-03, 4.071722e-03),
    "Q4_1": (1.560129e-03, 1.261743e-03, 3.373406e-03, 2.733741e-03),
    "Q5_0": (8.526383e-04, 7.636272e-04, 2.222953e-03, 2.116446e-03),
    "Q5_1": (7.537478e-04, 6.052443e-04, 1.625254e-03, 1.330503e-03),
    "Q2_K": (5.917697e-03, 4.571456e-03, 1.185539e-02, 9.188114e-03),
    "Q3_K": (3.010993e-03, 2.635330e-03, 6.523841e-03, 5.861067e-03),
    "Q4_K": (1.427052e-03, 1.282239e-03, 3.125088e-03, 2.826499e-03),
    "Q5_K": (7.203514e-04, 6.483033e-04, 1.578623e-03, 1.463423e-03),
    "Q6_K": (3.550869e-04, 3.154687e-04, 8.577240e-04, 7.819479e-04),
    "IQ4_NL": (1.517113e-03, 1.391773e-03, 3.444677e-03, 3.178409e-03),
    "IQ4_XS": (1.529142e-03, 1.407004e-03, 3.478115e-03, 3.238213e-03),
}
"""Root-mean-square errors of llama.cpp's quantisation (ggml_quantize_chunk of llama-cpp-python
0.3.36) of ``fixed_values``: normal, normal by importance, heavy tails, the same by importance."""


@pytest.mark.parametrize("type", [TensorType[n] for n in LLAMA_CPP], ids=lambda t: t.name)
def test_errors_are_not_above_those_of_llama_cpp(cpu: CPU, type: TensorType) -> None:
    theirs = iter(LLAMA_CPP[type.name])
    rounding = 1 + 1e-6  # of the numbers above; where the bytes are the same, so are they
    for name in ("normal", "heavy"):
        values, importance = fixed_values(name)
        own = error_of(values, cpu.quantize(values, type), type, np.ones_like(importance))
        assert own <= rounding * next(theirs)
        raw = cpu.quantize(values, type, importance)
        assert error_of(values, raw, type, importance) <= rounding * next(theirs)


@pytest.mark.parametrize("type", SEARCHED, ids=lambda t: t.name)
def test_what_the_type_holds_exactly_stays(cpu: CPU, type: TensorType) -> None:
    """Whole numbers with a scale of a power of two, and zeros."""
    importance = np.random.default_rng(5).gamma(0.3, 2, 256).astype(np.float32)
    least = 0 if type.name in ("Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K") else -1
    values = np.random.default_rng(4).integers(least, 2, (3, 256)).astype(np.float32)
    values[:, ::8] = 1
    values[2] = 0
    if type.name.startswith("IQ4"):
        values *= 113  # which they have as 113 and, at the other sign of the scale, as −113 not
        values = np.abs(values)
    for weights in (None, importance):
        if weights is None and type in ROUNDED:
            continue
        got = dequantize(cpu.quantize(values, type, weights), type)
        assert np.allclose(got, values, atol=np.abs(values).max() * 0.02), type.name


@pytest.mark.parametrize("type", SEARCHED, ids=lambda t: t.name)
def test_an_importance_counts_by_its_ratios(cpu: CPU, type: TensorType) -> None:
    values = normal(4, 512)
    importance = np.random.default_rng(5).gamma(0.3, 2, 512).astype(np.float32)
    raw = cpu.quantize(values, type, importance)
    assert np.array_equal(cpu.quantize(values, type, importance * 2**40), raw)
    none = cpu.quantize(values, type, np.zeros(512, np.float32))
    assert np.array_equal(none, cpu.quantize(values, type, np.ones(512, np.float32)))
    if type not in ROUNDED:
        assert np.array_equal(none, cpu.quantize(values, type))


def test_types_without_a_choice_pass_an_importance_over(cpu: CPU) -> None:
    values = normal(4, 512)
    importance = np.random.default_rng(5).gamma(0.3, 2, 512).astype(np.float32)
    for type in UNSEARCHED:
        raw = cpu.quantize(values, type, importance)
        assert np.array_equal(raw, cpu.quantize(values, type))


@pytest.mark.parametrize("value", [3e38, 1.0, 1e-36, 1e-40])
def test_mxfp4_of_any_size(cpu: CPU, value: float) -> None:
    """Within half of the largest step, which is from 4 to 6 of what the largest value is 4 to 8 of;
    subnormal ones within the steps that the least scale has."""
    values = (np.random.default_rng(6).uniform(-1, 1, (4, 256)) * value).astype(np.float32)
    values[:, 0] = value
    raw = cpu.quantize(values, TensorType.MXFP4)
    assert np.array_equal(raw, REFERENCE.quantize(values, TensorType.MXFP4))
    got = dequantize(raw, TensorType.MXFP4)
    assert np.abs(got - values).max() <= max(0.26 * value, 2.0**-129)


def test_three_values_stay(cpu: CPU) -> None:
    scale = np.array([[0.5], [0.013], [3.0]], np.float32)
    values = np.random.default_rng(4).integers(-1, 2, (3, 512)) * scale
    values[:, ::256] = scale
    for type in (TensorType.TQ1_0, TensorType.TQ2_0):
        got = dequantize(cpu.quantize(values.astype(np.float32), type), type)
        assert np.array_equal(got, values.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("type", SEARCHED, ids=lambda t: t.name)
@pytest.mark.parametrize("value", [65504.0, 1e-7, 3e-8, 1e-20, 1e-40])
def test_the_largest_and_the_least_values(cpu: CPU, type: TensorType, value: float) -> None:
    rng = np.random.default_rng(6)
    values = (rng.uniform(-1, 1, (4, 256)) * value).astype(np.float32)
    values[:, 0] = value
    values[1:, 1] = -value
    values[2] = value
    values[3] = -value
    for weights in (None, rng.gamma(0.1, 1, 256).astype(np.float32)):
        got = dequantize(cpu.quantize(values, type, weights), type)
        assert np.isfinite(got).all()
        assert np.abs(got).max() <= 1.6 * value + 2.0**-24
