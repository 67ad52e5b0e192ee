"""RWKV-6 against the formulas in NumPy, and the real model against the logits of its authors' code.

The random models are made afresh, and compared wherever tests run: the oracle needs NumPy alone.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.models.running import logits
from tests.parity import oracle_rwkv6
from tests.parity.common import KERNELS, tolerance
from tests.shared import SHARED, needs_shared

REAL = SHARED / "parity" / "rwkv6_real"


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", oracle_rwkv6.CASES)
def test_logits(name: str, seed: int, tmp_path: Path) -> None:
    sizes = oracle_rwkv6.CASES[name]
    weights = oracle_rwkv6.random_weights(sizes, seed)
    tokens = np.random.default_rng(seed).integers(0, sizes.n_vocab, 130)
    oracle_rwkv6.write_gguf(weights, sizes, tmp_path / "m.gguf")
    right = oracle_rwkv6.logits(weights, sizes, tokens)
    assert 2 < right.std() < 8
    for kernels in KERNELS.values():
        ours = logits(tmp_path / "m.gguf", kernels(), tokens)
        np.testing.assert_allclose(ours, right, rtol=0, atol=tolerance(name))


def test_rescaling_changes_nothing_but_the_scale_of_the_residual(tmp_path: Path) -> None:
    """Which the norms undo, up to their eps: it is 2⁴ times as large where all is halved twice."""
    sizes = replace(oracle_rwkv6.CASES["rwkv6"], n_layers=5, eps=1e-9)
    weights = oracle_rwkv6.random_weights(sizes, 3)
    tokens = np.random.default_rng(3).integers(0, sizes.n_vocab, 60)
    got = []
    for every in (0, 2, 1):
        path = tmp_path / f"{every}.gguf"
        oracle_rwkv6.write_gguf(weights, replace(sizes, rescale_every=every), path)
        got.append(logits(path, KERNELS["native"](), tokens))
    np.testing.assert_allclose(got[1], got[0], rtol=0, atol=tolerance("rwkv6"))
    np.testing.assert_allclose(got[2], got[0], rtol=0, atol=tolerance("rwkv6"))


@needs_shared
@pytest.mark.parametrize("kernels", KERNELS)
def test_the_real_model_is_nearer_than_llama_cpp_on_a_text(kernels: str) -> None:
    """To the exact logits of the file's own weights, Q5_1, over 200 bytes."""
    exact = np.load(REAL / "logits_hf.npy")
    ours = logits(REAL / "model.gguf", KERNELS[kernels](), np.load(REAL / "tokens.npy"))
    theirs = json.loads((REAL / "meta.json").read_text())["reference_vs_llamacpp"]
    away = np.abs(ours - exact)
    assert away.max() <= theirs["max_abs"]
    assert away.mean() <= theirs["mean_abs"]


@needs_shared
def test_the_real_model_is_nearer_than_llama_cpp_after_three_bytes() -> None:
    """To the logits that the authors' code gave with the F32 weights, and to those of the file's.

    Of the distance, 0.0757 is the file's rounding of the weights. The native kernels alone: the
    rest is the rounding of activations, another draw of it for each order of summation.
    """
    ours = logits(REAL / "model.gguf", KERNELS["native"](), np.load(REAL / "tokens_expected.npy"))
    for name in ("fp32model", "dequantised"):
        right = np.load(REAL / f"logits_expected_{name}.npy").reshape(-1)
        theirs = np.load(REAL / "logits_expected_llamacpp.npy").reshape(-1)
        assert np.abs(ours[-1] - right).max() <= np.abs(theirs - right).max()
