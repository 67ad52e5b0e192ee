"""The solo law of encoders: a sequence's states and vector are those that it has alone."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from motet import Batch, Model
from motet.kernels import CPU, _cpu
from motet.weights.gguf import GGUFFile
from tests.models.tiny import ENCODERS, metadata, write
from tests.shared import SHARED

LENGTHS = (1, 2, 70, 7, 64, 130, 33, 8, 3, 200)
GOLDENS = ("bert_cls", "bert_mean", "nomicbert", "modernbert", "xlmroberta_rank", "gemma_embedding")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory):
    @cache
    def make(name: str, isa: str, threads: int) -> Model:
        path: Path = SHARED / "parity" / name / "model.gguf"
        if name in ENCODERS:
            path = tmp_path_factory.mktemp(name) / "m.gguf"
            write(path, metadata(name))
        elif not path.exists():
            pytest.skip(f"needs {path}")
        return Model(GGUFFile.open(path), CPU(threads, isa))

    return make


def encoded(model: Model, texts: list[list[int]], order: list[int], ubatch: int, pooling: str):
    """States of all tokens, or vectors, of each of ``texts``, added to a batch in ``order``."""
    context = model.context(max_sequences=len(texts), ubatch=ubatch, pooling=pooling)
    batch = Batch()
    for seq in order:
        batch.extend(texts[seq], 0, seq, logits="all")
    out = context.encode(batch)
    if pooling != "none":
        assert out.hidden is None
        return [out.pooled[seq] for seq in range(len(texts))]
    assert not out.pooled and out.hidden is not None
    ends = np.cumsum([len(texts[seq]) for seq in order])
    parts = dict(zip(order, np.split(out.hidden, ends[:-1]), strict=True))
    return [parts[seq] for seq in range(len(texts))]


@pytest.mark.parametrize("isa", _cpu.supported())
@pytest.mark.parametrize("name", [*ENCODERS, *GOLDENS])
def test_any_neighbours_and_micro_batches(models, name: str, isa: str) -> None:
    model = models(name, isa, 2)
    rng = np.random.default_rng(5)
    longest = model.config.context_length
    texts = [rng.integers(0, model.n_vocab, min(n, longest)).tolist() for n in LENGTHS]
    kinds = ["none", "mean", "cls", "last"] + ["rank"] * (model.config.pooling == "rank")
    for pooling in kinds:
        alone = [encoded(models(name, isa, 1), [text], [0], 512, pooling)[0] for text in texts]
        for ubatch in (1, 7, 64, 512) if isa == _cpu.supported()[0] else (64,):
            order = rng.permutation(len(texts)).tolist()
            together = encoded(model, texts, order, ubatch, pooling)
            for one, other in zip(together, alone, strict=True):
                assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ENCODERS)
def test_instruction_sets_agree(models, name: str) -> None:
    texts = [[*range(n % 40), 3] for n in LENGTHS]
    fused = [isa for isa in _cpu.supported() if isa != "baseline"]
    every = [encoded(models(name, isa, 1), texts, [*range(10)], 512, "mean") for isa in fused]
    for other in every[1:]:
        assert np.array_equal(every[0], other)


def test_entries_may_be_interleaved(models) -> None:
    model = models("bert", _cpu.supported()[0], 1)
    texts = [[1, 2, 3, 4, 5], [9, 8, 7]]
    batch = Batch()
    for position in range(5):
        for seq in (0, 1):
            if position < len(texts[seq]):
                wanted = (seq + position) % 2 == 0
                batch.add(texts[seq][position], position, seq, logits=wanted)
    out = model.context(max_sequences=2, pooling="none").encode(batch)
    alone = [encoded(model, [text], [0], 512, "none")[0] for text in texts]
    expected = [alone[0][0], alone[1][1], alone[0][2], alone[0][4]]
    assert np.array_equal(out.hidden, np.array(expected))
