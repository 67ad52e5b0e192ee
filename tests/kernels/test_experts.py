"""Routing and experts against their definition, and a token alone against a token in a batch."""

from dataclasses import replace

import numpy as np
import pytest

from motet.kernels import CPU
from motet.kernels.reference import Reference
from motet.kernels.routing import SCORES, WEIGHTS, Routing
from motet.weights.formats import TensorType
from tests.kernels.recurrent_cases import normal
from tests.kernels.test_linear import random_raw

REFERENCE = Reference()
EXPERTS, D, INNER = 7, 64, 128


def matrices(kernels: CPU | Reference, type: TensorType) -> tuple[list, list, list]:
    """gate, up and down of every expert."""

    def each(seed: int, rows: int, columns: int) -> list:
        raws = [random_raw(type, rows, columns, seed + e) for e in range(EXPERTS)]
        return [kernels.pack(raw, type, rows, columns) for raw in raws]

    return each(0, INNER, D), each(10, INNER, D), each(20, D, INNER)


def routed(tokens: int, k: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, weights = REFERENCE.route(normal(tokens, EXPERTS, seed=5), Routing(k))
    return normal(tokens, D), ids, weights


@pytest.mark.parametrize(("experts", "k"), [(1, 1), (7, 3), (16, 16), (40, 2), (256, 8)])
def test_route(cpu: CPU, experts: int, k: int) -> None:
    logits = normal(50, experts, scale=4)
    check_routing(cpu, logits, Routing(k))


def check_routing(
    cpu: CPU, logits: np.ndarray, routing: Routing, bias: np.ndarray | None = None
) -> np.ndarray:
    """As the reference has it, and for a token alone as among others; returns the ids."""
    ids, weights = cpu.route(logits, routing, bias)
    expected_ids, expected = REFERENCE.route(logits, routing, bias)
    assert np.array_equal(ids, expected_ids)
    np.testing.assert_allclose(weights, expected, rtol=3e-6)
    again = CPU(threads=1, isa=cpu.isa).route(logits[30:31], routing, bias)
    assert np.array_equal(again[0], ids[30:31])
    assert np.array_equal(again[1], weights[30:31])
    return ids


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(
    ("experts", "used", "groups"),
    [
        (7, 3, {}),
        (160, 6, {"groups": 8, "groups_used": 3}),  # DeepSeek-V2
        (256, 8, {"groups": 8, "groups_used": 4, "group_best": 2}),  # DeepSeek-V3
        (8, 3, {"groups": 4, "groups_used": 2, "group_best": 2}),
        (4, 4, {"groups": 4, "groups_used": 4}),
    ],
)
def test_every_routing(
    cpu: CPU, experts: int, used: int, groups: dict, scores: str, weights: str, biased: bool
) -> None:
    routing = Routing(used, scores, weights=weights, epsilon=1e-6, scale=2.5, **groups)
    bias = normal(experts, seed=8, scale=0.2) if biased else None
    logits = np.abs(normal(50, experts, seed=9)) if scores == "logits" else normal(50, experts)
    ids = check_routing(cpu, logits, routing, bias)
    if routing.groups > 1:
        size = experts // routing.groups
        assert max(len(set(row // size)) for row in ids) <= routing.groups_used


def test_groups_by_their_best_or_by_two(cpu: CPU) -> None:
    """The first group has the best expert, the second the best two."""
    logits = np.array([[3, -9, 2, 1.9, 0, 0]], np.float32)
    best = Routing(2, "sigmoid", groups=3)
    assert cpu.route(logits, best)[0].tolist() == [[0, 1]]
    assert cpu.route(logits, replace(best, group_best=2))[0].tolist() == [[2, 3]]


def test_a_bias_chooses_and_does_not_weigh(cpu: CPU) -> None:
    logits, bias = np.array([[1, 2, 3]], np.float32), np.array([5, 0, 0], np.float32)
    ids, weights = cpu.route(logits, Routing(2, "sigmoid", weights="normalised"), bias)
    assert ids.tolist() == [[0, 2]]
    one, three = (1 / (1 + np.exp(-x)) for x in (1.0, 3.0))
    np.testing.assert_allclose(weights, [[one / (one + three), three / (one + three)]], rtol=1e-6)


def test_routings_that_make_no_sense(cpu: CPU) -> None:
    for wrong in (
        {"scores": "tanh"},
        {"weights": "all"},
        {"groups": 2, "groups_used": 3},
        {"group_best": 3},
    ):
        with pytest.raises(ValueError, match=r"routing|groups"):
            Routing(2, **wrong)  # type: ignore[arg-type]
    logits = normal(3, 8)
    for wrong in (Routing(1, groups=3), Routing(5, groups=2), Routing(1, groups=8, group_best=2)):
        assert not wrong.fits(8)
        with pytest.raises(ValueError, match="route"):
            cpu.route(logits, wrong)
    with pytest.raises(ValueError, match="bias of other experts"):
        cpu.route(logits, Routing(2), normal(7))


def test_route_of_equals_takes_the_lowest_id(cpu: CPU) -> None:
    logits = np.array([[1, 3, 3, 0, 3], [0, 0, 0, 0, 0], [2, np.nan, 1, 3, 0]], np.float32)
    ids, weights = cpu.route(logits, Routing(3))
    assert ids.tolist() == [[1, 2, 4], [0, 1, 2], [3, 0, 2]]
    assert np.isnan(weights[2]).all()
    with pytest.raises(ValueError, match="more experts"):
        cpu.route(logits, Routing(6))


@pytest.mark.parametrize(
    "type",
    [TensorType.F32, TensorType.Q8_0, TensorType.MXFP4, TensorType.NVFP4],
    ids=lambda t: t.name,
)
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("activation", ["silu", "relu2"])
def test_experts(cpu: CPU, type: TensorType, activation: str, gated: bool) -> None:
    x, ids, weights = routed(60)
    gate, up, down = matrices(cpu, type)
    got = cpu.experts(x, ids, weights, gate if gated else None, up, down, activation)
    gate, up, down = matrices(REFERENCE, type)
    expected = REFERENCE.experts(x, ids, weights, gate if gated else None, up, down, activation)
    # An activation next to a rounding boundary may fall on either side of it.
    tolerance = 1e-5 if type == TensorType.F32 else 2e-3
    np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("type", [TensorType.F32, TensorType.Q8_0], ids=lambda t: t.name)
def test_experts_with_biases(cpu: CPU, type: TensorType) -> None:
    x, ids, weights = routed(60)
    biases = [normal(EXPERTS, n, seed=30 + n, scale=3.0) for n in (INNER, INNER + 1, D)]
    biases[1] = np.ascontiguousarray(biases[1][:, 1:])
    own = matrices(cpu, type)
    got = cpu.experts(x, ids, weights, *own, "clamped_swiglu", biases)
    expected = REFERENCE.experts(
        x, ids, weights, *matrices(REFERENCE, type), "clamped_swiglu", biases
    )
    tolerance = 1e-5 if type == TensorType.F32 else 2e-3
    np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())
    plain = cpu.experts(x, ids, weights, *own, "clamped_swiglu")
    assert np.abs(got - plain).max() > 0.1 * np.abs(got).max()
    zeros = [np.zeros_like(bias) for bias in biases]
    assert np.array_equal(cpu.experts(x, ids, weights, *own, "clamped_swiglu", zeros), plain)
    one_thread = CPU(threads=1, isa=cpu.isa)
    for t in (0, 59):
        row = slice(t, t + 1)
        alone = one_thread.experts(x[row], ids[row], weights[row], *own, "clamped_swiglu", biases)
        assert np.array_equal(alone, got[row])
    for wrong in (biases[:2], [*biases[:2], biases[2][:3]], biases[::-1]):
        with pytest.raises(ValueError, match="biases"):
            cpu.experts(x, ids, weights, *own, "clamped_swiglu", wrong)
    with pytest.raises(ValueError, match="biases"):
        cpu.experts(x, ids, weights, None, *own[1:], "silu", biases)
    with pytest.raises(ValueError, match="activation"):  # which is of a gate's number too
        cpu.experts(x, ids, weights, None, *own[1:], "clamped_swiglu")


@pytest.mark.parametrize(
    "type",
    [TensorType.F32, TensorType.Q4_0, TensorType.MXFP4, TensorType.NVFP4],
    ids=lambda t: t.name,
)
def test_a_token_is_the_same_alone_and_among_others(cpu: CPU, type: TensorType) -> None:
    x, ids, weights = routed(60)
    own = matrices(cpu, type)
    together = cpu.experts(x, ids, weights, *own, "silu")
    one_thread = CPU(threads=1, isa=cpu.isa)
    order = np.random.default_rng(3).permutation(60)
    shuffled = one_thread.experts(x[order], ids[order], weights[order], *own, "silu")
    assert np.array_equal(shuffled, together[order])
    for t in (0, 17, 59):
        row = slice(t, t + 1)
        assert np.array_equal(
            cpu.experts(x[row], ids[row], weights[row], *own, "silu"), together[row]
        )
        ungated = cpu.experts(x[row], ids[row], weights[row], None, *own[1:], "relu2")
        assert np.array_equal(ungated, cpu.experts(x, ids, weights, None, *own[1:], "relu2")[row])
        # By hand, expert after expert.
        total = np.zeros((1, D), np.float32)
        for e, weight in zip(ids[t], weights[t], strict=True):
            gate, up = cpu.linear(x[row], own[0][e], own[1][e])
            (y,) = cpu.linear(cpu.gated(gate, up, "silu"), own[2][e])
            total += weight * y
        np.testing.assert_allclose(total, together[row], rtol=1e-6, atol=1e-6 * np.abs(total).max())


def test_avx2_and_avx512_agree_to_the_bit(cpu: CPU) -> None:
    if cpu.isa != "avx512":
        pytest.skip("compares AVX-512 with AVX2")
    avx2 = CPU(threads=1, isa="avx2")
    x, ids, weights = routed(40)
    for type in (TensorType.F32, TensorType.Q8_0):
        a, b = (k.experts(x, ids, weights, *matrices(k, type), "silu") for k in (cpu, avx2))
        assert np.array_equal(a, b)
    logits = normal(50, 40)
    for routing in (Routing(4), Routing(4, "sigmoid", 4, 2, 2, "normalised")):
        assert np.array_equal(cpu.route(logits, routing)[1], avx2.route(logits, routing)[1])


def test_what_does_not_fit_is_refused(cpu: CPU) -> None:
    gate, up, down = matrices(cpu, TensorType.F32)
    x, ids, weights = routed(4)
    assert cpu.experts(x[:0], ids[:0], weights[:0], gate, up, down, "silu").shape == (0, D)
    beyond = ids.copy()
    beyond[2, 1] = EXPERTS
    for arguments in (
        (x, beyond, weights, gate, up, down),
        (x, -1 - ids, weights, gate, up, down),
        (x[:3], ids, weights, gate, up, down),
        (x, ids, weights[:, :2].copy(), gate, up, down),
        (x, ids, weights, gate[:6], up, down),
        (x, ids, weights, None, up, down[:6]),
        (x, ids, weights, None, down, up),
        (x, ids, weights, gate, down, down),
        (x[:, :32].copy(), ids, weights, gate, up, down),
    ):
        with pytest.raises(ValueError, match="experts"):
            cpu.experts(*arguments, "silu")
