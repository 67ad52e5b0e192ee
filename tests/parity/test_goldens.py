"""The committed tiny models give the logits that transformers gave; see make_goldens.py."""

from pathlib import Path

import numpy as np
import pytest

from motet.models.registry import FAMILIES
from motet.weights.gguf import GGUFFile
from tests.models.running import OneSequence, logits, open_family
from tests.parity.common import KERNELS, tolerance

FOLDER = Path(__file__).parent / "goldens"
NAMES = sorted(path.stem for path in FOLDER.glob("*.gguf"))


def test_there_is_a_golden_of_every_family() -> None:
    architectures = set()
    for name in NAMES:
        with GGUFFile.open(FOLDER / f"{name}.gguf") as file:
            architectures.add(file.architecture)
    assert architectures >= set(FAMILIES)


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
