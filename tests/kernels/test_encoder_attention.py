"""Attention over whole sequences against its definition, and the solo law inside one call."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from motet.kernels import CPU, Rope
from motet.kernels.bias import PositionBias
from motet.kernels.reference import Reference
from motet.models.bias import alibi

LENGTHS = [1, 64, 3, 200, 65, 17, 128]
SHAPES: list[tuple[dict[str, int], dict[str, Any]]] = [
    ({}, {}),
    ({"heads": 8, "kv_heads": 1}, {"window": 50}),
    ({"kv_heads": 2, "head_dim": 33, "value_dim": 17}, {"window": 1, "softcap": 3.0}),
    ({"head_dim": 64, "value_dim": 64}, {"rope": "neox"}),
    ({"head_dim": 24, "value_dim": 48}, {"rope": "normal", "window": 64}),
    ({"heads": 6}, {"bias": alibi(6)}),
    ({"heads": 6, "kv_heads": 3}, {"bias": alibi(6), "window": 70, "softcap": 2.0}),
]


def case(
    lengths: list[int],
    heads: int = 4,
    kv_heads: int = 0,
    head_dim: int = 32,
    value_dim: int = 32,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Queries, keys and values of some sequences, and where each begins."""
    rng, count = np.random.default_rng(sum(lengths)), sum(lengths)
    kv_heads = kv_heads or heads
    shapes = (heads, head_dim), (kv_heads, head_dim), (kv_heads, value_dim)
    q, k, v = (rng.standard_normal((count, *shape)).astype(np.float32) for shape in shapes)
    return q, k, v, np.cumsum([0, *lengths]).astype(np.int32)


def with_rope(options: dict[str, Any]) -> dict[str, Any]:
    if "rope" not in options:
        return options
    return options | {"rope": Rope(10000.0 ** (-np.arange(0, 24, 2) / 24), options["rope"], 1.1)}


@pytest.mark.parametrize(("shape", "options"), SHAPES)
def test_equals_reference(cpu: CPU, shape: dict[str, int], options: dict[str, Any]) -> None:
    q, k, v, starts = case(LENGTHS, **shape)
    options = {"scale": 0.3} | with_rope(options)
    expected = Reference().encoder_attention(q, k, v, starts, **options)
    got = cpu.encoder_attention(q, k, v, starts, **options)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shape", "options"), SHAPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_sequence_is_the_same_alone(
    cpu: CPU, shape: dict[str, int], options: dict[str, Any], threads: int
) -> None:
    q, k, v, starts = case(LENGTHS, **shape)
    options = {"scale": 0.3} | with_rope(options)
    together = cpu.encoder_attention(q, k, v, starts, **options)
    one = CPU(threads=threads, isa=cpu.isa)
    for first, last in pairwise(starts):
        own = slice(first, last)
        whole = np.array([0, last - first], np.int32)
        alone = one.encoder_attention(q[own], k[own], v[own], whole, **options)
        assert np.array_equal(together[own], alone)


def test_what_is_not_finite_stays_in_its_sequence(cpu: CPU) -> None:
    q, k, v, starts = case([70, 9, 130])
    expected = cpu.encoder_attention(q, k, v, starts, scale=1.0)
    k[75], v[77] = np.inf, np.nan
    got = cpu.encoder_attention(q, k, v, starts, scale=1.0)
    others = np.r_[0:70, 79:209]
    assert np.array_equal(got[others], expected[others])
    assert not np.isfinite(got[70:79]).all()


@pytest.mark.parametrize(
    "wrong",
    [{"starts": [0, 3, 3, 12]}, {"starts": [0, 5]}, {"starts": [1, 12]}, {"starts": [0, 13]}],
)
def test_wrong_sequences_are_refused(cpu: CPU, wrong: dict[str, list[int]]) -> None:
    q, k, v, _ = case([12])
    with pytest.raises(ValueError, match="sequence"):
        cpu.encoder_attention(q, k, v, np.array(wrong["starts"], np.int32), scale=1.0)


def test_a_bias_of_other_heads_is_refused(cpu: CPU) -> None:
    q, k, v, starts = case([12])
    bias = PositionBias(3, lambda d: np.zeros((3, len(d)), np.float32))
    with pytest.raises(ValueError, match="bias"):
        cpu.encoder_attention(q, k, v, starts, scale=1.0, bias=bias)
