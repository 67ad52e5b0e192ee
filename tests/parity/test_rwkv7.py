"""RWKV-7 against the formulas in NumPy; transformers does not have it.

The random models are made afresh, and compared wherever tests run: the oracle needs NumPy alone.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.models.running import logits
from tests.parity import oracle_rwkv7
from tests.parity.common import KERNELS, tolerance


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", oracle_rwkv7.CASES)
def test_logits(name: str, seed: int, tmp_path: Path) -> None:
    sizes = oracle_rwkv7.CASES[name]
    weights = oracle_rwkv7.random_weights(sizes, seed)
    tokens = np.random.default_rng(seed).integers(0, sizes.n_vocab, 130)
    oracle_rwkv7.write_gguf(weights, sizes, tmp_path / "m.gguf")
    right = oracle_rwkv7.logits(weights, sizes, tokens)
    assert 2 < right.std() < 8
    for kernels in KERNELS.values():
        ours = logits(tmp_path / "m.gguf", kernels(), tokens)
        np.testing.assert_allclose(ours, right, rtol=0, atol=tolerance(name))


def test_what_the_first_layer_has_no_use_for_changes_nothing(tmp_path: Path) -> None:
    """Converters write it, since llama.cpp wants it."""
    sizes = oracle_rwkv7.CASES["rwkv7_narrow"]
    weights = oracle_rwkv7.random_weights(sizes, 3)
    got = []
    for repeated in (True, False):
        path = tmp_path / f"{repeated}.gguf"
        oracle_rwkv7.write_gguf(weights, sizes, path, repeated=repeated)
        got.append(logits(path, KERNELS["native"](), np.arange(sizes.n_vocab)))
    assert np.array_equal(*got)


@pytest.mark.parametrize("part", ["att.v0", "att.k_k", "att.k_a", "att.a0", "att.r_k", "att.x_g"])
def test_every_part_counts(part: str, tmp_path: Path) -> None:
    """The oracle's tolerance sees each of them: with another one logits are far away."""
    sizes = oracle_rwkv7.CASES["rwkv7_narrow"]
    weights = oracle_rwkv7.random_weights(sizes, 4)
    tokens = np.arange(sizes.n_vocab)
    right = oracle_rwkv7.logits(weights, sizes, tokens)
    weights[f"1.{part}"] = weights[f"1.{part}"] + 0.1
    oracle_rwkv7.write_gguf(weights, sizes, tmp_path / "m.gguf")
    away = np.abs(logits(tmp_path / "m.gguf", KERNELS["native"](), tokens) - right)
    assert away.max() > 100 * tolerance("rwkv7")
