"""Biases of scores by distance, in paged attention: alone, with a rotation, with Self-Extend."""

import numpy as np
import pytest

from motet.kernels import CPU
from motet.kernels.bias import PositionBias
from motet.kernels.interface import KV_TYPES
from motet.kernels.reference import Reference
from motet.models.bias import alibi, relative_buckets
from motet.self_extend import AutoExtend, SelfExtend
from tests.kernels.test_attention import Case, rope_of, split_at
from tests.kernels.test_self_extend import SETTINGS, ExtendedCase

REFERENCE = Reference()


def uneven(heads: int) -> PositionBias:
    """Another number for each distance, so that none may be mistaken for its neighbour."""
    return PositionBias(heads, lambda d: np.float32(2) * np.sin(np.outer(1 + np.arange(heads), d)))


def buckets(heads: int) -> PositionBias:
    weight = np.random.default_rng(7).standard_normal((16, heads)).astype(np.float32)
    return relative_buckets(weight, both=False, furthest=60)


BIASES = {"alibi": alibi, "uneven": uneven, "buckets": buckets}


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ({}, {}),
        ({"heads": 6, "kv_heads": 2}, {"window": 70}),
        ({"heads": 5, "kv_heads": 1, "head_dim": 33, "value_dim": 17}, {"softcap": 3.0}),
        ({"head_dim": 48}, {"rope": rope_of(32, "normal"), "window": 7}),
    ],
)
def test_equals_reference(cpu: CPU, shape: dict, options: dict, bias: str) -> None:
    case = Case([3, 200, 65], **shape)
    options = {"scale": 0.2, "bias": BIASES[bias](case.q.shape[1]), **options}
    expected = case.run(REFERENCE, case.whole(), **options)
    np.testing.assert_allclose(case.run(cpu, case.whole(), **options), expected, atol=3e-5)
    plain = case.run(cpu, case.whole(), **options | {"bias": None})
    assert np.abs(expected - plain).max() > 0.1


def test_the_definition() -> None:
    """softmax(scale · q·k + bias)·v, where the bias is that of key − query."""
    case = Case([70], heads=2, kv_heads=2)
    got = case.run(REFERENCE, case.whole(), scale=0.2, bias=uneven(2))
    position = np.arange(70)
    scores = 0.2 * np.einsum("qhd,khd->hqk", case.q, case.k)
    distance = position - position[:, None]
    scores += 2 * np.sin(np.array([1, 2])[:, None, None] * distance)
    scores = np.where(distance <= 0, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    expected = np.einsum("hqk,khd->qhd", weights, case.v).reshape(70, -1)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KV_TYPES)
@pytest.mark.parametrize("options", [{}, {"window": 70, "softcap": 4.0}, {"rope": rope_of(32)}])
def test_any_split_gives_the_same_bits(cpu: CPU, kind: str, options: dict) -> None:
    lengths = [1, 700, 64, 129, 515]
    options = {"scale": 0.2, **options}
    case = Case(lengths, kind=kind)
    together = case.run(cpu, case.whole(), bias=uneven(4), **options)
    one_thread = CPU(threads=1, isa=cpu.isa)
    for seed, sizes in enumerate(([1], [7], [64], [3, 500])):
        again, kernels = Case(lengths, kind=kind), one_thread if seed % 2 else cpu
        got = again.run(kernels, split_at(again, sizes, seed), bias=uneven(4), **options)
        assert np.array_equal(got, together)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("options", [{}, {"rope": rope_of(32)}, {"softcap": 5.0}])
def test_self_extend_equals_reference(
    cpu: CPU, setting: SelfExtend | AutoExtend, options: dict
) -> None:
    """Far keys have the bias of their grouped distance."""
    case = ExtendedCase([3, 300, 65], setting)
    options = {"scale": 0.2, "bias": uneven(4), **options}
    expected = case.run(REFERENCE, case.whole(), **options)
    np.testing.assert_allclose(case.run(cpu, case.whole(), **options), expected, atol=3e-5)
    plain = Case([3, 300, 65]).run(cpu, case.whole(), **options)
    assert np.abs(expected - plain).max() > 1e-2


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_self_extend_in_any_split(cpu: CPU, setting: SelfExtend | AutoExtend) -> None:
    lengths = [1, 600, 64, 129]
    together = ExtendedCase(lengths, setting)
    together = together.run(cpu, together.whole(), scale=0.2, bias=uneven(4))
    for seed, sizes in enumerate(([1], [7], [64], [3, 500])):
        again = ExtendedCase(lengths, setting)
        kernels = CPU(threads=1, isa=cpu.isa) if seed % 2 else cpu
        got = again.run(kernels, split_at(again, sizes, seed), scale=0.2, bias=uneven(4))
        assert np.array_equal(got, together)


def test_identities_to_the_bit(cpu: CPU) -> None:
    """A bias of zeros, groups of one, contexts within the window: plain attention."""
    lengths = [3, 300, 65]
    case = Case(lengths)
    zeros = PositionBias(4, lambda d: np.zeros((4, len(d)), np.float32))
    for options in ({}, {"rope": rope_of(32)}):
        plain = case.run(cpu, case.whole(), scale=0.2, **options)
        assert np.array_equal(case.run(cpu, case.whole(), scale=0.2, bias=zeros, **options), plain)
        biased = case.run(cpu, case.whole(), scale=0.2, bias=uneven(4), **options)
        for setting in (SelfExtend(1, 4), SelfExtend(1, 70), SelfExtend(9, 300)):
            extended = ExtendedCase(lengths, setting)
            got = extended.run(cpu, case.whole(), scale=0.2, bias=uneven(4), **options)
            assert np.array_equal(got, biased)


def test_a_longer_table_changes_nothing(cpu: CPU) -> None:
    case, bias = Case([200]), alibi(4)
    before = case.run(cpu, case.whole(), scale=0.2, bias=bias)
    assert bias.table(5000).shape[1] > 10000
    assert np.array_equal(case.run(cpu, case.whole(), scale=0.2, bias=bias), before)


def test_a_bias_of_other_heads_is_refused(cpu: CPU) -> None:
    case = Case([3])
    with pytest.raises(ValueError, match="a bias of other heads"):
        case.run(cpu, case.whole(), scale=0.2, bias=alibi(3))
