"""Packed weights against their definition, and alone against together."""

import gguf
import numpy as np
import pytest

from motet.kernels import CPU
from motet.kernels.cpu_weights import PACKED_BITS
from motet.kernels.reference import FLOAT_TYPES, Reference
from motet.weights.formats import TensorType, row_bytes

REFERENCE = Reference()
TYPES = sorted(PACKED_BITS)


def random_raw(type: TensorType, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Random bytes that are sound blocks: any quants, but scales of an ordinary size."""
    rng = np.random.default_rng(seed)
    if type in FLOAT_TYPES:
        x = rng.standard_normal((rows, columns)).astype(np.float32)
        if type == TensorType.BF16:
            return (x.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        return x.astype(np.float16 if type == TensorType.F16 else np.float32).view(np.uint8)
    raw = rng.integers(0, 256, (rows, row_bytes(type, columns)), dtype=np.uint8)
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(type)]
    blocks = raw.reshape(rows, columns // block, size)
    if type == TensorType.MXFP4:  # powers of two
        blocks[:, :, 0] = rng.integers(114, 124, blocks.shape[:2])
        return raw
    if type == TensorType.NVFP4:  # floats of eight bits, of a number below 1
        blocks[:, :, :4] = rng.integers(0, 56, (*blocks.shape[:2], 4))
        return raw
    half = rng.uniform(-0.01, 0.01, blocks.shape[:2]).astype(np.float16)
    if type == TensorType.IQ1_M:  # four bits of the scale in each of the last words
        for i in range(4):
            bits = (half.view(np.uint16) >> 4 * i & 15) << 4
            blocks[:, :, 49 + 2 * i] = blocks[:, :, 49 + 2 * i] & 15 | bits
        return raw
    scales = {
        "Q4_1": (0, 2), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2),
        "Q5_K": (0, 2), "Q6_K": (208,), "TQ1_0": (52,), "TQ2_0": (64,),
    }.get(type.name, (0,))  # fmt: skip
    for at in scales:
        half = rng.uniform(-0.01, 0.01, blocks.shape[:2]).astype(np.float16)
        blocks[:, :, at : at + 2] = half[..., None].view(np.uint8)
    return raw


@pytest.mark.parametrize("type", TYPES, ids=lambda t: t.name)
@pytest.mark.parametrize(("rows", "columns"), [(16, 256), (37, 512), (3, 1280)])
def test_equals_reference(cpu: CPU, type: TensorType, rows: int, columns: int) -> None:
    raw = random_raw(type, rows, columns)
    native = cpu.pack(raw, type, rows, columns)
    reference = REFERENCE.pack(raw, type, rows, columns)
    x = np.random.default_rng(1).standard_normal((13, columns)).astype(np.float32)
    (y,), (expected,) = cpu.linear(x, native), REFERENCE.linear(x, reference)
    scale = np.abs(x) @ np.abs(reference.weights.T)
    assert np.abs(y - expected).max() <= 2e-6 * scale.max()


@pytest.mark.parametrize("quants", [0x00, 0x77, 0xFF])
@pytest.mark.parametrize("tokens", [1, 2, 4, 16])
@pytest.mark.parametrize(
    "type", [t for t in TYPES if t not in FLOAT_TYPES and t.block == 32], ids=lambda t: t.name
)
def test_sums_of_the_largest_quants_are_exact(
    cpu: CPU, type: TensorType, tokens: int, quants: int
) -> None:
    """Where all weights and activations are the same, and as far from zero as they can be, sums in
    16 bits would overflow; all numbers are a power of two times a small whole number."""
    rows, columns = 16, 256
    raw = random_raw(type, rows, columns)
    blocks = raw.reshape(rows, columns // type.block, type.block_bytes)
    blocks[:] = quants
    one = [127] if type == TensorType.MXFP4 else [0x00, 0x3C]
    blocks[:, :, : len(one)] = one
    if type in (TensorType.Q4_1, TensorType.Q5_1):
        blocks[:, :, 2:4] = one
    x = np.full((tokens, columns), -1, np.float32)  # rounded to 128 times 1/128, or -128 times that
    x[::2] = 1
    (y,) = cpu.linear(x, cpu.pack(raw, type, rows, columns))
    assert np.array_equal(y, x @ REFERENCE.pack(raw, type, rows, columns).weights.T)


@pytest.mark.parametrize("type", TYPES, ids=lambda t: t.name)
@pytest.mark.parametrize(("rows", "columns"), [(16, 256), (37, 512), (3, 1280), (17, 33)])
def test_what_is_packed_takes_what_is_foretold(
    cpu: CPU, type: TensorType, rows: int, columns: int
) -> None:
    if columns % type.block:
        pytest.skip("no whole blocks")
    raw = random_raw(type, rows, columns)
    assert cpu.packed_bytes(type, rows, columns) == cpu.pack(raw, type, rows, columns).nbytes
    expected = REFERENCE.pack(raw, type, rows, columns).nbytes
    assert REFERENCE.packed_bytes(type, rows, columns) == expected


def test_other_types_are_widened(cpu: CPU) -> None:
    raw = np.ones((20, 512)).view(np.uint8)
    packed = cpu.pack(raw, TensorType.F64, 20, 512)
    assert packed.nbytes == cpu.packed_bytes(TensorType.F64, 20, 512) == 32 * 512 * 4


@pytest.mark.parametrize("type", TYPES, ids=lambda t: t.name)
def test_embedding_is_the_dequantised_row(cpu: CPU, type: TensorType) -> None:
    raw = random_raw(type, 37, 512)
    weight = cpu.pack(raw, type, 37, 512)
    ids = np.array([36, 0, 5, 5, 17], np.int32)
    expected = REFERENCE.embedding(REFERENCE.pack(raw, type, 37, 512), ids)
    np.testing.assert_allclose(cpu.embedding(weight, ids), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("type", TYPES, ids=lambda t: t.name)
def test_a_row_is_the_same_alone_and_among_others(cpu: CPU, type: TensorType) -> None:
    w = cpu.pack(random_raw(type, 70, 768), type, 70, 768)
    x = np.random.default_rng(2).standard_normal((100, 768)).astype(np.float32)
    (together,) = cpu.linear(x, w)
    one_thread = CPU(threads=1, isa=cpu.isa)
    again = one_thread.pack(random_raw(type, 70, 768), type, 70, 768)
    for rows in (1, 2, 3, 5, 8, 15, 64):
        for kernels, weight in ((cpu, w), (one_thread, again)):
            first, second = kernels.linear(x[7 : 7 + rows].copy(), weight, weight)
            assert np.array_equal(first, together[7 : 7 + rows])
            assert np.array_equal(second, first)


def test_float_weights_of_any_width(cpu: CPU) -> None:
    for columns in (1, 7, 33, 65, 130):
        raw = random_raw(TensorType.F32, 20, columns)
        x = np.random.default_rng(3).standard_normal((3, columns)).astype(np.float32)
        (y,) = cpu.linear(x, cpu.pack(raw, TensorType.F32, 20, columns))
        np.testing.assert_allclose(y, x @ raw.view(np.float32).T, atol=1e-5)


def test_zero_rows_and_zero_activations(cpu: CPU) -> None:
    w = cpu.pack(random_raw(TensorType.Q4_0, 16, 64), TensorType.Q4_0, 16, 64)
    assert cpu.linear(np.zeros((0, 64), np.float32), w)[0].shape == (0, 16)
    assert not cpu.linear(np.zeros((2, 64), np.float32), w)[0].any()


def test_avx2_and_avx512_agree_to_the_bit(cpu: CPU) -> None:
    if cpu.isa != "avx512":
        pytest.skip("compares AVX-512 with AVX2")
    avx2 = CPU(threads=1, isa="avx2")
    x = np.random.default_rng(4).standard_normal((9, 512)).astype(np.float32)
    for type in TYPES:
        raw = random_raw(type, 40, 512)
        (a,) = cpu.linear(x, cpu.pack(raw, type, 40, 512))
        (b,) = avx2.linear(x, avx2.pack(raw, type, 40, 512))
        assert np.array_equal(a, b), type.name


def test_packed_size_stays_near_the_file_size(cpu: CPU) -> None:
    codes = {"IQ1_S": 1.26, "IQ1_M": 1.25, "IQ2_XXS": 1.07, "IQ2_XS": 1.06, "TQ1_0": 1.23}
    for type in TYPES:
        if type.name not in {"Q2_K", "Q3_K"}:  # as nibbles
            w = cpu.pack(random_raw(type, 64, 2304), type, 64, 2304)
            most = codes.get(type.name, 1.05) * row_bytes(type, 2304) * 64
            assert w.nbytes <= most, type.name


def test_rows_that_do_not_fit_are_refused(cpu: CPU) -> None:
    w = cpu.pack(random_raw(TensorType.Q4_0, 16, 64), TensorType.Q4_0, 16, 64)
    with pytest.raises(ValueError, match="width"):
        cpu.linear(np.zeros((1, 32), np.float32), w)
    with pytest.raises(ValueError, match="beyond"):
        cpu.embedding(w, np.array([16], np.int32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_activation_is_not_hidden(cpu: CPU, value: float) -> None:
    w = cpu.pack(random_raw(TensorType.Q8_0, 16, 64), TensorType.Q8_0, 16, 64)
    x = np.ones((2, 64), np.float32)
    x[1, 40] = value
    (y,) = cpu.linear(x, w)
    assert np.isfinite(y[0]).all()
    assert not np.isfinite(y[1]).any()
