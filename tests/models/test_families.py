"""What holds for every family, whatever its arithmetic. The arithmetic itself: tests/parity."""

import ast
from pathlib import Path

import numpy as np
import pytest

import motet.models
from motet.kernels.reference import Reference
from tests.models.running import OneSequence, open_family
from tests.models.tiny import ARCHITECTURES, VOCAB, metadata, write

TOKENS = np.random.default_rng(3).integers(0, VOCAB, 21)


@pytest.fixture(params=ARCHITECTURES)
def sequence(request: pytest.FixtureRequest, tmp_path: Path) -> OneSequence:
    path = write(tmp_path / "m.gguf", metadata(request.param))
    return OneSequence(open_family(path, Reference()), 64)


def test_only_wanted_rows_come_back(sequence: OneSequence) -> None:
    every = sequence.feed(TOKENS)
    assert every.shape == (len(TOKENS), VOCAB)
    assert every.dtype == np.float32
    wanted = np.array([20, 3, 3, 0])
    sequence.length = 0
    np.testing.assert_allclose(sequence.feed(TOKENS, wanted), every[wanted], atol=1e-5)


def test_nothing_wanted_still_remembers(sequence: OneSequence) -> None:
    every = sequence.feed(TOKENS)
    sequence.length = 0
    assert sequence.feed(TOKENS[:13], np.empty(0, np.int64)).shape == (0, VOCAB)
    np.testing.assert_allclose(sequence.feed(TOKENS[13:]), every[13:], atol=1e-5)


def test_token_by_token(sequence: OneSequence) -> None:
    every = sequence.feed(TOKENS)
    sequence.length = 0
    steps = [sequence.feed(TOKENS[i : i + 1])[0] for i in range(len(TOKENS))]
    np.testing.assert_allclose(steps, every, atol=1e-5)


def test_families_loop_over_layers_only() -> None:
    """A family calls kernels and slices: its only loop in ``forward`` is the one over blocks."""
    steps = ("forward", "mix", "_attend", "_scan", "_feed", "_time_mix", "_channel_mix")
    folder = Path(motet.models.__file__).parent
    seen = 0
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name in steps:
                loops = [
                    n
                    for n in ast.walk(node)
                    if isinstance(n, ast.For | ast.While | ast.comprehension)
                ]
                assert len(loops) <= (node.name == "forward"), path
                seen += 1
    assert seen >= 2 * 7
