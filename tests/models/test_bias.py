"""Position biases, against what their papers print and what transformers computes."""

import numpy as np
import pytest

from motet.models.bias import alibi, relative_buckets

DISTANCES = np.arange(-4000, 4001)


def of(bias, distances: np.ndarray) -> np.ndarray:
    table = bias.table(int(np.abs(distances).max()))
    return table[:, table.shape[1] // 2 + distances]


def test_slopes_of_alibi() -> None:
    """§3 of the paper: 1/2, 1/4 … 1/256 for eight heads; others take every other one of 2 n."""
    slopes = 2.0 ** -np.arange(1, 9)
    got = of(alibi(8), DISTANCES)
    np.testing.assert_array_equal(got, -slopes[:, None] * np.abs(DISTANCES))
    of_16 = 2.0 ** (-np.arange(1, 17) / 2)
    np.testing.assert_allclose(
        -of(alibi(12), np.array([1]))[:, 0], [*slopes, *of_16[:8:2]], rtol=1e-7
    )


@pytest.mark.parametrize("most", [8, 6.5])
@pytest.mark.parametrize("heads", [1, 2, 3, 5, 6, 8, 12, 20, 32, 40, 64, 71])
def test_alibi_is_that_of_mpt(heads: int, most: float) -> None:
    """Which counts from the last key: a constant that a softmax does not see."""
    mpt = pytest.importorskip("transformers.models.mpt.modeling_mpt", reason="the oracle")
    count = 3000
    theirs = mpt.build_mpt_alibi_tensor(heads, count, most).numpy()[:, 0]
    ours = of(alibi(heads, most), np.arange(1 - count, 1))
    np.testing.assert_allclose(ours, theirs, rtol=3e-7)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (16, 64), (32, 20), (64, 1000)])
def test_buckets_are_those_of_t5(both: bool, buckets: int, furthest: int) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5", reason="the oracle")
    torch = pytest.importorskip("torch", reason="the oracle")
    weight = np.arange(buckets, dtype=np.float32)[:, None] + np.array([0, 100], np.float32)
    theirs = t5.T5Attention._relative_position_bucket(
        torch.from_numpy(DISTANCES), both, buckets, furthest
    ).numpy()
    ours = of(relative_buckets(weight, both=both, furthest=furthest), DISTANCES)
    np.testing.assert_array_equal(ours, theirs + np.array([[0], [100]]))


def test_buckets_of_t5_without_it() -> None:
    """Half of a direction's buckets for a distance each, the rest logarithmic up to 128."""
    weight = np.arange(32, dtype=np.float32)[:, None]
    seen = of(relative_buckets(weight, both=False), -np.array([0, 15, 16, 20, 113, 127, 128, 999]))
    assert seen[0].tolist() == [0, 15, 16, 17, 31, 31, 31, 31]
    seen = of(relative_buckets(weight, both=True), np.array([-128, -8, -1, 0, 1, 7, 8, 127]))
    assert seen[0].tolist() == [15, 8, 1, 0, 17, 23, 24, 31]
