import gguf
import numpy as np
import pytest

from motet.errors import UnsupportedError
from motet.weights.formats import REFUSED_TYPES, TensorType, dequantize, row_bytes

INTEGERS = {TensorType.I8, TensorType.I16, TensorType.I32, TensorType.I64}


def test_sizes_are_those_of_the_gguf_package() -> None:
    for type in TensorType:
        known = gguf.GGMLQuantizationType[type.name]
        assert (known.value, gguf.GGML_QUANT_SIZES[known]) == (
            type.value,
            (type.block, type.block_bytes),
        )


def test_every_type_of_the_gguf_package_is_read_or_refused_by_name() -> None:
    for known in gguf.GGMLQuantizationType:
        assert known.value in REFUSED_TYPES or TensorType(known.value).name == known.name
    assert not set(REFUSED_TYPES) & set(TensorType)


def test_row_bytes() -> None:
    assert row_bytes(TensorType.F32, 7) == 28
    assert row_bytes(TensorType.Q4_0, 64) == 36
    assert row_bytes(TensorType.Q6_K, 512) == 420
    with pytest.raises(UnsupportedError, match="100 values is not a whole number of Q4_K blocks"):
        row_bytes(TensorType.Q4_K, 100)


@pytest.mark.parametrize("type", [t for t in TensorType if t.block > 1], ids=lambda t: t.name)
def test_blocks_mean_what_the_gguf_package_says(type: TensorType) -> None:
    rng = np.random.default_rng(type.value)
    raw = rng.integers(0, 256, (3, row_bytes(type, 512)), np.uint8)
    values = dequantize(raw, type)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[type.name])
    assert values.shape == (3, 512)
    assert values.dtype == np.float32
    assert np.array_equal(values, expected, equal_nan=True)


def test_q4_0_by_hand() -> None:
    scale = np.array([0.5], np.float16).tobytes()
    raw = np.frombuffer(scale + bytes([0x80 + 15] + [0x88] * 15), np.uint8)[None]
    expected = np.zeros((1, 32), np.float32)
    expected[0, 0] = 3.5  # the low half byte, 15 - 8, is the first value
    assert np.array_equal(dequantize(raw, TensorType.Q4_0), expected)


def test_plain_floats() -> None:
    values = np.array([[0.0, -1.5, np.inf, 3.0e-39, 65504.0]], np.float32)
    assert np.array_equal(dequantize(values.view(np.uint8), TensorType.F32), values)
    half = values.astype(np.float16)
    assert np.array_equal(dequantize(half.view(np.uint8), TensorType.F16), half.astype(np.float32))
    double = values.astype(np.float64)
    assert np.array_equal(dequantize(double.view(np.uint8), TensorType.F64), values)
    top = (values.view(np.uint32) >> 16).astype(np.uint16)
    expected = (top.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(dequantize(top.view(np.uint8), TensorType.BF16), expected)
    assert expected[0, 1] == -1.5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("type", [t for t in TensorType if t not in INTEGERS], ids=lambda t: t.name)
def test_any_bytes_are_values_without_a_warning(type: TensorType) -> None:
    for byte in (0x00, 0x7F, 0xF7, 0xFF):  # among them signalling NaNs
        raw = np.full((1, row_bytes(type, 256)), byte, np.uint8)
        raw[:, 1::2] = 0x7F
        assert dequantize(raw, type).shape == (1, 256)


def test_a_slice_of_rows_and_an_unaligned_view() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    buffer = np.frombuffer(b"x" + values.tobytes(), np.uint8)[1:].reshape(3, 16)
    assert np.array_equal(dequantize(buffer[1:], TensorType.F32), values[1:])


@pytest.mark.parametrize("type", sorted(INTEGERS), ids=lambda t: t.name)
def test_integers_are_not_weights(type: TensorType) -> None:
    with pytest.raises(UnsupportedError, match=f"{type.name} holds integers"):
        dequantize(np.zeros((1, 8), np.uint8), type)
