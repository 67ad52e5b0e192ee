"""However the matrix kernels go through memory, they compute the same bits."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from motet.kernels import _cpu
from motet.kernels.cpu_weights import PACKED_BITS
from motet.weights.formats import TensorType
from tests.kernels.test_linear import random_raw

COUNTS = (1, 2, 3, 4, 5, 8, 16, 17, 33)
"""Rows of activations: every height of a tile, and mixtures of them."""
STRIPS = 23
"""Sixteen rows of weights each; odd, so that fewer than eight, four and two are left over."""


@pytest.fixture(params=[*_cpu.supported(), "emulated"])
def native(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "emulated" and "avx512" not in _cpu.supported():
        pytest.skip("the emulation needs AVX-512")
    try:
        module = import_module(f"motet.kernels._{request.param}")
    except ImportError:
        pytest.skip("built without MOTET_EMULATE_TILES (make test builds with it)")
    before = module.tuning()
    yield module
    module.set_tuning(before)


@pytest.mark.parametrize("type", sorted(PACKED_BITS), ids=lambda t: t.name)
def test_no_tuning_changes_a_bit(native: Any, type: TensorType) -> None:
    rows, columns = 16 * STRIPS - 5, 512
    raw = random_raw(type, rows, columns)
    pools = [native.ThreadPool(threads) for threads in (1, 2)]
    weight = native.Matrix(native.Arena(), int(type), rows, columns)
    native.pack(pools[0], weight, raw, 0)
    inputs = [
        np.random.default_rng(n).standard_normal((n, columns)).astype(np.float32) for n in COUNTS
    ]

    def products(*walk: int, chains: int) -> list[np.ndarray]:
        native.set_tuning(native.Tuning([[walk] * 5] * 5, chains, native.tuning().dots))
        outs = []
        for x in inputs:
            for pool in pools:
                outs.append(np.full((len(x), rows), np.nan, np.float32))
                native.linear(pool, x, [weight], [], [outs[-1]])
        return outs

    expected = products(1, 0, 1, chains=1)
    for strips in (1, 2, 4, 8):
        for ahead, level in ((0, 1), (512, 1), (8192, 2)):
            for chains in (1, 2):
                made = products(strips, ahead, level, chains=chains)
                for got, wanted in zip(made, expected, strict=True):
                    assert np.array_equal(got, wanted), (strips, ahead, level, chains, len(got))


@pytest.mark.parametrize(
    ("wrong", "chains"),
    [((3, 0, 1), 1), ((16, 0, 1), 1), ((1, -1, 1), 1), ((1, 0, 3), 1), ((1, 0, 1), 3)],
)
def test_a_tuning_that_there_is_no_kernel_for_is_refused(
    native: Any, wrong: tuple[int, ...], chains: int
) -> None:
    before = native.tuning()
    walks = [*before.walks[:4], [*before.walks[4][:4], wrong]]
    with pytest.raises(ValueError, match="tuning"):
        native.set_tuning(native.Tuning(walks, chains, before.dots))
    now = native.tuning()
    assert (now.walks, now.chains) == (before.walks, before.chains)
