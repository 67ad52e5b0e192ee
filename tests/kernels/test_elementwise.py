"""Norms and activations against their definition; an element is the same wherever it stands."""

import numpy as np
import pytest

from motet.kernels import CPU
from motet.kernels.reference import Reference

REFERENCE = Reference()
WIDTHS = (1, 15, 16, 100, 2304)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("width", WIDTHS)
def test_norms(cpu: CPU, width: int) -> None:
    x, weight, bias = normal(9, width, scale=3), normal(width, seed=1), normal(width, seed=2)
    for name, arguments in (
        ("rms_norm", (weight, 1e-6)),
        ("layer_norm", (weight, bias, 1e-5)),
        ("layer_norm", (weight, None, 1e-5)),
    ):
        got = getattr(cpu, name)(x, *arguments)
        expected = getattr(REFERENCE, name)(x, *arguments)
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
        assert np.array_equal(getattr(cpu, name)(x[4:5].copy(), *arguments), got[4:5])


@pytest.mark.parametrize(("groups", "width"), [(8, 5), (3, 64), (1, 33)])
def test_each_group_has_its_own_weight(cpu: CPU, groups: int, width: int) -> None:
    x = normal(7, groups, width, scale=3)
    weight, bias = normal(groups, width, seed=1), normal(groups, width, seed=2)
    for name, arguments in (
        ("rms_norm", (weight, 1e-6)),
        ("layer_norm", (weight, bias, 1e-5)),
        ("layer_norm", (weight, None, 1e-5)),
    ):
        got = getattr(cpu, name)(x, *arguments)
        expected = getattr(REFERENCE, name)(x, *arguments)
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
        for g in range(groups):
            own = [a[g].copy() if isinstance(a, np.ndarray) else a for a in arguments]
            assert np.array_equal(getattr(cpu, name)(x[:, g].copy(), *own), got[:, g])
    for bad in (weight[:, :-1].copy(), normal(groups + 1, width), normal(1, groups, width)):
        with pytest.raises(ValueError, match="norm"):
            cpu.rms_norm(x, bad, 1e-6)
    if groups > 1:
        with pytest.raises(ValueError, match="norm"):
            cpu.layer_norm(x, weight, bias[0], 1e-6)


def test_norm_of_heads(cpu: CPU) -> None:
    x, weight = normal(5, 3, 24), normal(24)
    np.testing.assert_allclose(
        cpu.rms_norm(x, weight, 1e-6), REFERENCE.rms_norm(x, weight, 1e-6), atol=1e-5
    )


@pytest.mark.parametrize(
    "activation", ["silu", "gelu_tanh", "gelu_erf", "sigmoid", "tanh", "relu", "relu2"]
)
def test_activations(cpu: CPU, activation: str) -> None:
    extremes = np.array([0, -0.0, 1e-30, -1e-30, 80, -80, 1e4, -1e4], np.float32)
    x = np.concatenate([np.linspace(-12, 12, 4999, dtype=np.float32), extremes])
    up = normal(len(x))
    got, expected = cpu.activate(x, activation), REFERENCE.activate(x, activation)
    np.testing.assert_allclose(got, expected, rtol=3e-6, atol=4e-7)
    np.testing.assert_array_equal(cpu.gated(x, up, activation), got * up)
    np.testing.assert_array_equal(cpu.activate(x[17:20].copy(), activation), got[17:20])


def test_clamped_swiglu(cpu: CPU) -> None:
    gate = np.concatenate([np.linspace(-12, 12, 4999), [7, -7, 0, 60, -60, 1e4, -1e30]])
    gate = gate.astype(np.float32)
    up = normal(len(gate), scale=5)
    got = cpu.gated(gate, up, "clamped_swiglu")
    expected = REFERENCE.gated(gate, up, "clamped_swiglu")
    np.testing.assert_allclose(got, expected, rtol=3e-6, atol=4e-6)
    assert got[4999] == cpu.gated(gate[5002:5003], up[4999:5000], "clamped_swiglu")[0]
    np.testing.assert_array_equal(cpu.gated(gate[17:20], up[17:20], "clamped_swiglu"), got[17:20])
    for a, b in ((np.nan, 1), (1, np.nan)):
        one, other = np.array([[a], [b]], np.float32)
        assert np.isnan(cpu.gated(one, other, "clamped_swiglu")).all()
    for kernels in (cpu, REFERENCE):  # it is of two numbers
        with pytest.raises(ValueError, match="activation"):
            kernels.activate(gate, "clamped_swiglu")


def test_softcap(cpu: CPU) -> None:
    x = np.concatenate([normal(5000, scale=40), normal(100, scale=0.01)])
    got = cpu.softcap(x, 30.0)
    np.testing.assert_allclose(got, REFERENCE.softcap(x, 30.0), rtol=1e-6, atol=4e-6)
    np.testing.assert_array_equal(cpu.softcap(x[3:4].copy(), 30.0), got[3:4])


@pytest.mark.parametrize("width", [1, 16, 37, 600])
def test_layer_norm_of_a_sum(cpu: CPU, width: int) -> None:
    rng = np.random.default_rng(width)
    x, plus = (rng.standard_normal((9, width)).astype(np.float32) for _ in range(2))
    weight, bias = (rng.standard_normal(width).astype(np.float32) for _ in range(2))
    got = cpu.layer_norm(x, weight, bias, 1e-5, plus)
    assert np.array_equal(got, cpu.layer_norm(x + plus, weight, bias, 1e-5))
    expected = REFERENCE.layer_norm(x, weight, bias, 1e-5, plus)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [1, 2, 16, 37])
def test_softmax(cpu: CPU, width: int) -> None:
    x = 20 * np.random.default_rng(width).standard_normal((9, width)).astype(np.float32)
    got = cpu.softmax(x)
    np.testing.assert_allclose(got, REFERENCE.softmax(x), rtol=2e-6, atol=1e-9)
    np.testing.assert_array_equal(cpu.softmax(x[3:4].copy()), got[3:4])


def test_clamp(cpu: CPU) -> None:
    x = np.array([[-7, -1.5, -0.1, 0, 1.4, 1.6, np.inf, np.nan]], np.float32)
    expected = np.array([[-1.5, -1.5, -0.1, 0, 1.4, 1.5, 1.5, np.nan]], np.float32)
    for kernels in (cpu, REFERENCE):
        np.testing.assert_array_equal(kernels.clamp(x, 1.5), expected)


def test_nan_is_not_swallowed(cpu: CPU) -> None:
    x = np.array([1, np.nan, 2], np.float32)
    for got in (cpu.activate(x, "silu"), cpu.softcap(x, 5.0), cpu.activate(x, "gelu_tanh")):
        assert np.isnan(got[1])
        assert np.isfinite(got[[0, 2]]).all()
