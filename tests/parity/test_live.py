"""Fresh random models of every family against transformers, where it is installed."""

from pathlib import Path

import numpy as np
import pytest

from tests.models.running import logits
from tests.parity.common import KERNELS, tolerance

pytest.importorskip("torch", reason="needs torch, the oracle")
pytest.importorskip("transformers", reason="needs transformers, the oracle")

from tests.parity.oracle import CASES, oracle_logits, random_model, write_gguf


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_logits(name: str, seed: int, tmp_path: Path) -> None:
    model = random_model(CASES[name](), seed)
    tokens = np.random.default_rng(seed).integers(0, model.config.vocab_size, 130)
    write_gguf(model, tmp_path / "m.gguf")
    theirs = oracle_logits(model, tokens)
    for kernels in KERNELS.values():
        ours = logits(tmp_path / "m.gguf", kernels(), tokens)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance(name))
