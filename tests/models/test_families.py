"""What holds for every family, whatever its arithmetic. The arithmetic itself: tests/parity."""

import ast
import resource
from pathlib import Path

import numpy as np
import pytest

import motet.models
from motet.errors import ModelFileError
from motet.kernels.reference import Reference
from motet.models.registry import declared
from motet.spec import Recurrent
from motet.weights.gguf import GGUFFile
from tests.models.running import OneSequence, open_family
from tests.models.tiny import ARCHITECTURES, DECODERS, VOCAB, metadata, write

TOKENS = np.random.default_rng(3).integers(0, VOCAB, 21)


@pytest.fixture(params=DECODERS)
def sequence(request: pytest.FixtureRequest, tmp_path: Path) -> OneSequence:
    path = write(tmp_path / "m.gguf", metadata(request.param))
    return OneSequence(open_family(path, Reference()), 64)


def assert_near(actual: np.ndarray, every: np.ndarray, rows: slice | np.ndarray) -> None:
    """By the largest logit: NumPy's products sum in another order for another number of rows, and
    in which one differs between processors."""
    assert np.abs(actual - every[rows]).max() <= 1e-5 * np.abs(every).max()


def test_only_wanted_rows_come_back(sequence: OneSequence) -> None:
    every = sequence.feed(TOKENS)
    assert every.shape == (len(TOKENS), VOCAB)
    assert every.dtype == np.float32
    wanted = np.array([20, 3, 3, 0])
    sequence.length = 0
    assert_near(sequence.feed(TOKENS, wanted), every, wanted)


def test_nothing_wanted_still_remembers(sequence: OneSequence) -> None:
    every = sequence.feed(TOKENS)
    sequence.length = 0
    assert sequence.feed(TOKENS[:13], np.empty(0, np.int64)).shape == (0, VOCAB)
    assert_near(sequence.feed(TOKENS[13:]), every, slice(13, None))


def test_token_by_token(sequence: OneSequence) -> None:
    every = sequence.feed(TOKENS)
    sequence.length = 0
    steps = [sequence.feed(TOKENS[i : i + 1])[0] for i in range(len(TOKENS))]
    assert_near(np.array(steps), every, slice(None))


LOOPS = {
    "forward": "self.blocks self.decoder_blocks self.own_blocks self.sharing_blocks",
    "_mixed": "enumerate(zip(self.w2, self.lerps, strict=True))",  # RWKV-6's five mixes
    "head": "",
    "encode": "self.blocks self.encoder_blocks",
}
"""What steps of the computation may loop over, and nothing else."""


def test_layers_call_kernels_and_slice() -> None:
    """They loop over layers and matrices, never over tokens, heads or channels."""
    seen = 0
    for path in Path(motet.models.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name in LOOPS:
                seen += 1
                for inner in ast.walk(node):
                    assert not isinstance(inner, ast.While | ast.comprehension), (path, node.name)
                    if isinstance(inner, ast.For):
                        assert ast.unparse(inner.iter) in LOOPS[node.name], (path, node.name)
    assert seen >= 16


def test_layers_and_families_do_not_know_numpy() -> None:
    """So that arrays of another device can take the place of NumPy's."""
    folder = Path(motet.models.__file__).parent
    knowing = {p.name for p in folder.glob("*.py") if "import numpy" in p.read_text()}
    assert knowing == {"bias.py", "packed.py", "rope.py", "tensors.py"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_declaration_needs_no_weights(architecture: str, tmp_path: Path) -> None:
    """Whatever is there of the tensors, the caches are those of the loaded model."""
    path = write(tmp_path / "whole.gguf", metadata(architecture))
    loaded = open_family(path, Reference())
    with GGUFFile.open(path) as file:
        assert declared(file).caches == loaded.caches
        assert declared(file).config == loaded.config
    empty = write(tmp_path / "empty.gguf", metadata(architecture, vocab_size=VOCAB), {})
    with GGUFFile.open(empty) as file:
        assert declared(file, strict=False).caches == loaded.caches
        with pytest.raises(ModelFileError, match=r"lacks token_embd\.weight"):
            declared(file)


def test_a_declaration_takes_no_memory(tmp_path: Path) -> None:
    """Also where the keys make up sizes that no file has."""
    width = 1 << 24
    sizes = dict.fromkeys(("ssm__inner_size", "ssm__state_size", "ssm__time_step_rank"), width)
    keys = metadata("mamba", block_count=512, embedding_length=width, **sizes)
    with GGUFFile.open(write(tmp_path / "m.gguf", keys, {})) as file:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        caches = declared(file, strict=False).caches
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB
    assert caches == ((Recurrent(((3, width), (width, width))),),) * 512
