"""BF16 weights: the order of their sums, which every instruction set keeps to the bit."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from motet.kernels import _cpu
from motet.kernels.reference_quantize import rounded_to_bf16
from motet.weights.formats import TensorType

FUSED = [isa for isa in (*_cpu.supported(), "emulated") if isa != "baseline"]


def module_of(isa: str) -> Any:
    if isa == "emulated" and "avx512" not in _cpu.supported():
        pytest.skip("the emulation needs AVX-512")
    try:
        return import_module(f"motet.kernels._{isa}")
    except ImportError:
        pytest.skip("built without MOTET_EMULATE_TILES (make test builds with it)")


@pytest.fixture(params=FUSED)
def native(request: pytest.FixtureRequest) -> Iterator[Any]:
    module = module_of(request.param)
    before = module.tuning()
    yield module
    module.set_tuning(before)


def use_dots(native: Any, dots: bool) -> None:
    """Multiply with the processor's own instruction for BF16, or without it."""
    now = native.tuning()
    native.set_tuning(native.Tuning(now.walks, now.chains, dots))


def product(native: Any, weights: np.ndarray, x: np.ndarray, threads: int = 2) -> np.ndarray:
    """``x`` · ``weights``ᵀ, of weights that are given as BF16's bits."""
    pool = native.ThreadPool(threads)
    matrix = native.Matrix(native.Arena(), int(TensorType.BF16), *weights.shape)
    native.pack(pool, matrix, weights.view(np.uint8), 0)
    out = np.full((len(x), len(weights)), np.nan, np.float32)
    native.linear(pool, x, [matrix], [], [out])
    return out


def floats(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def in_order(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The definition, of numbers in whose products and sums nothing is subnormal.

    A product of two BF16 and its sum with a float32 are exact in float64, where their sizes do not
    differ by more than 2^28: rounded once they are a fused multiply-add.
    """
    rows, columns = x.shape
    w = floats(np.pad(weights, ((0, 0), (0, -columns % 32)))).astype(np.float64)
    a = floats(rounded_to_bf16(np.pad(x, ((0, 0), (0, -columns % 32))))).astype(np.float64)
    total = np.zeros((rows, len(weights)), np.float32)
    for block in range(0, columns, 32):
        sums = [np.zeros_like(total), np.zeros_like(total)]
        for word in range(16):
            even = block + 2 * word
            for column in (even + 1, even):
                exact = sums[word % 2] + np.outer(a[:, column], w[:, column])
                sums[word % 2] = exact.astype(np.float32)
        total = total + (sums[0] + sums[1])
    return total


def ordinary(rows: int, columns: int, seed: int) -> np.ndarray:
    """Magnitudes from a half to 2, of either sign."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.5, 2, (rows, columns)) * rng.choice([-1, 1], (rows, columns))
    return x.astype(np.float32)


@pytest.mark.parametrize("columns", [1, 2, 3, 31, 32, 33, 62, 66, 95, 512])
def test_the_order_of_the_sum_is_as_defined(native: Any, columns: int) -> None:
    weights, x = rounded_to_bf16(ordinary(37, columns, 1)), ordinary(19, columns, 2)
    expected = in_order(weights, x)
    for dots in {False, native.tuning().dots}:
        use_dots(native, dots)
        assert np.array_equal(product(native, weights, x), expected), dots


def test_rounding_activations_costs_no_more_than_promised(native: Any) -> None:
    """docs/numerics.md: 2^-8 · Σ|x·w|, and float32's rounding of the sum."""
    weights = rounded_to_bf16(ordinary(33, 700, 11))
    x = np.random.default_rng(12).standard_normal((20, 700)).astype(np.float32)
    w = floats(weights).astype(np.float64)
    apart = np.abs(product(native, weights, x) - x.astype(np.float64) @ w.T)
    assert (apart <= (2.0**-8 + 2.0**-20) * (np.abs(x) @ np.abs(w.T))).all()
    assert apart.max() > 1e-4 * (np.abs(x) @ np.abs(w.T)).max()


def extreme(rng: np.random.Generator, shape: tuple[int, int], middle: float) -> np.ndarray:
    """Numbers around 2^middle, zeros and subnormals among them, and equal ones that cancel."""
    exponents = np.round(rng.uniform(middle - 8, middle + 8, shape))
    x = np.ldexp(rng.choice([1, -1, 1.5, -1.5, 1.9921875, 1.2345678], shape), exponents.astype(int))
    return np.where(rng.random(shape) < 0.1, 0, x).astype(np.float32)


@pytest.mark.parametrize(
    "middles", [(0, 0), (-60, -63), (-63, -63), (-130, 3), (3, -130), (-130, 119), (63, 63)]
)
def test_instruction_sets_agree_where_numbers_are_subnormal_or_overflow(
    middles: tuple[int, int],
) -> None:
    rng = np.random.default_rng(5)
    weights = rounded_to_bf16(extreme(rng, (48, 192), middles[0]))
    x = extreme(rng, (21, 192), middles[1])
    results: list[tuple[Any, np.ndarray]] = []
    for isa in FUSED:
        native = module_of(isa)
        before = native.tuning()
        for dots in {False, before.dots}:
            use_dots(native, dots)
            results.append(((isa, dots), product(native, weights, x)))
        native.set_tuning(before)
    for which, result in results:
        nan = np.isnan(result)
        assert np.array_equal(nan, np.isnan(results[0][1])), which
        bits, expected = (np.where(nan, 0, r).view(np.uint32) for r in (result, results[0][1]))
        assert np.array_equal(bits, expected), which
        assert not ((bits & 0x7F800000 == 0) & (bits & 0x7FFFFF != 0)).any(), "subnormal"


def test_a_row_of_words_is_the_same_alone(native: Any) -> None:
    weights, x = rounded_to_bf16(ordinary(130, 257, 3)), ordinary(67, 257, 4)
    together = product(native, weights, x)
    for rows in (1, 2, 3, 7, 16, 33):
        for threads in (1, 2):
            alone = product(native, weights, x[5 : 5 + rows].copy(), threads)
            assert np.array_equal(alone, together[5 : 5 + rows])


def test_activations_are_rounded_to_the_nearest_ties_to_even(native: Any) -> None:
    eighth = 2.0**-8  # half of what follows 1 in BF16
    x = np.array([[1 + eighth, 1 + 3 * eighth, -1 - eighth, 1 + 1.01 * eighth, 3.4e38]], np.float32)
    one = np.diag(np.full(5, 0x3F80)).astype(np.uint16)
    expected = [1, 1 + 4 * eighth, -1, 1 + 2 * eighth, np.inf]
    for dots in {False, native.tuning().dots}:
        use_dots(native, dots)
        out = product(native, one[:4, :4].copy(), x[:, :4].copy())
        assert out.tolist() == [expected[:4]]
        assert product(native, one[:1, :1].copy(), x[:, 4:].copy()).tolist() == [expected[4:]]


@pytest.mark.parametrize("bits", [0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7FC00000, 0xFF800000])
def test_what_is_not_finite_shows_in_its_row_alone(native: Any, bits: int) -> None:
    x = ordinary(3, 40, 6)
    x.view(np.uint32)[1, 7] = bits
    for dots in {False, native.tuning().dots}:
        use_dots(native, dots)
        out = product(native, rounded_to_bf16(ordinary(20, 40, 7)), x)
        assert np.isfinite(out[[0, 2]]).all()
        assert not np.isfinite(out[1]).any()


def test_subnormals_count_again_after_it(native: Any) -> None:
    """The caller's thread has its own way of rounding back."""
    product(native, rounded_to_bf16(ordinary(16, 32, 8)), ordinary(4, 32, 9), threads=1)
    tiny = np.full(64, 2.0**-140, np.float32)
    assert (tiny + tiny == 2.0**-139).all()


def test_an_embedding_is_the_row_as_it_is(native: Any) -> None:
    weights = np.random.default_rng(10).integers(0, 1 << 16, (37, 65), dtype=np.uint16)
    pool = native.ThreadPool(1)
    matrix = native.Matrix(native.Arena(), int(TensorType.BF16), *weights.shape)
    native.pack(pool, matrix, weights.view(np.uint8), 0)
    out = np.empty((3, 65), np.float32)
    native.embedding(pool, matrix, np.array([36, 0, 17], np.int32), out)
    assert np.array_equal(out.view(np.uint32), weights[[36, 0, 17]].astype(np.uint32) << 16)
