"""The committed tiny models give the logits that transformers gave; see make_goldens.py."""

from pathlib import Path

import numpy as np
import pytest

from motet import Batch, Model
from motet.models.registry import FAMILIES
from motet.weights.gguf import GGUFFile
from tests.models.running import OneSequence, logits, open_family
from tests.parity.common import KERNELS, tolerance

FOLDER = Path(__file__).parent / "goldens"
NAMES = sorted(path.stem for path in FOLDER.glob("*.gguf"))


ELSEWHERE = {"deepseek2", "openelm", "nomic-bert", "gemma-embedding", "t5", "t5encoder"}
ELSEWHERE |= {"qwen3moe", "smollm3", "granite", "olmo2", "glm4", "phi3", "mistral3"}
ELSEWHERE |= {"granitehybrid", "falcon-h1", "nemotron_h", "lfm2", "lfm2moe", "glm4moe"}
ELSEWHERE |= {"qwen3next", "qwen35", "qwen35moe", "kimi-linear", "nemotron_h_moe", "rwkv7"}
ELSEWHERE |= {"gemma4", "gpt-oss"}
"""Of which the shared random models are the goldens, or which are compared live."""


def test_there_is_a_golden_of_every_family() -> None:
    architectures = {"jina-bert-v2"}  # test_jina_bert.py
    for path in [*FOLDER.glob("*.gguf"), *FOLDER.glob("encoders/*.gguf")]:
        with GGUFFile.open(path) as file:
            architectures.add(file.architecture)
    assert architectures | ELSEWHERE == set(FAMILIES)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["bert", "modern-bert"])
def test_states_of_encoders(name: str, kernels: str) -> None:
    golden = np.load(FOLDER / "encoders" / f"{name}.npz")
    with GGUFFile.open(FOLDER / "encoders" / f"{name}.gguf") as file:
        model = Model(file, KERNELS[kernels]())
    batch = Batch()
    batch.extend(golden["tokens"], 0, logits="all")
    hidden = model.context(pooling="none").encode(batch).hidden
    assert hidden is not None
    np.testing.assert_allclose(hidden, golden["states"], rtol=0, atol=1e-4)
    pooled = model.context().encode(batch).pooled[0]
    np.testing.assert_allclose(pooled, golden["states"].mean(axis=0), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", NAMES)
def test_logits(name: str, kernels: str) -> None:
    golden = np.load(FOLDER / f"{name}.npz")
    ours = logits(FOLDER / f"{name}.gguf", KERNELS[kernels](), golden["tokens"])
    np.testing.assert_allclose(ours, golden["logits"], rtol=0, atol=tolerance(name))


@pytest.mark.parametrize("name", NAMES)
def test_chunks_are_bit_for_bit_the_whole(name: str) -> None:
    kernels = KERNELS["native"]()
    tokens = np.load(FOLDER / f"{name}.npz")["tokens"]
    whole = logits(FOLDER / f"{name}.gguf", kernels, tokens)
    sequence = OneSequence(open_family(FOLDER / f"{name}.gguf", kernels), len(tokens))
    parts = [sequence.feed(part) for part in np.split(tokens, [1, 2, 9, 40, 65])]
    assert np.array_equal(np.concatenate(parts), whole)
