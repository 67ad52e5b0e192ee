"""The solo law on a tiny model of every family that decodes: with F32 and with quantised weights,
on every instruction set, and with Self-Extend where there are positions to group."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import Batch, Model
from motet.conversion.loading import prepared
from motet.errors import UnsupportedError
from motet.kernels import CPU, _cpu
from motet.self_extend import AutoExtend, SelfExtend
from motet.weights.gguf import GGUFFile
from tests.models.tiny import DECODERS, NOT_EXTENDED, metadata, write
from tests.solo.voices import SPLITS, UBATCHES, Voices, alone, feed, random_tokens

WIDE = {
    "embedding_length": 64,
    "feed_forward_length": 64,
    "expert_feed_forward_length": 32,
    "expert_shared_feed_forward_length": 32,
    "ssm.inner_size": 64,
    "ssm.time_step_rank": 4,
}
"""Instead of other values, but not of 0 or of one a layer: rows are whole blocks of weights."""
BEST, *OTHERS = _cpu.supported()
WAYS = [(BEST, "f32"), (BEST, "q8_0"), (BEST, "q4_0"), *((isa, "q8_0") for isa in OTHERS)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("families")

    @cache
    def make(architecture: str, isa: str, type: str, threads: int) -> Model:
        path, kernels = folder / f"{architecture}.gguf", CPU(threads, isa)
        if not path.exists():
            write(path, wide(architecture))
        file = GGUFFile.open(path)
        return Model(file if type == "f32" else prepared(file, type, (), kernels), kernels)

    return make


def wide(architecture: str) -> dict[str, Any]:
    """A tiny model's keys, with rows that can be quantised."""
    keys = metadata(architecture)
    for name, value in WIDE.items():
        key = f"{architecture}.{name}"
        if type(keys.get(key)) is int and keys[key]:
            keys[key] = value
    return keys


@pytest.mark.parametrize(("isa", "type"), WAYS)
@pytest.mark.parametrize("architecture", DECODERS)
def test_random_batches(models, architecture: str, isa: str, type: str) -> None:
    rng = np.random.default_rng([len(architecture), len(type), len(isa)])
    model, other = (models(architecture, isa, type, threads) for threads in (1, 2))
    voices = Voices.random(model, rng, int(rng.integers(3, 7)), 50)
    context = model.context(
        max_sequences=len(voices.tokens),
        ubatch=int(rng.choice(UBATCHES)),
        split=SPLITS[int(rng.integers(3))],
    )
    rows = feed(context, voices.entries(rng), rng)
    assert rows
    expected = [alone(other, tokens) for tokens in voices.tokens]
    for (seq, position), logits in rows.items():
        assert np.array_equal(logits, expected[seq][position]), (seq, position)


@pytest.mark.parametrize("architecture", DECODERS)
def test_the_weights_were_quantised(models, architecture: str) -> None:
    read = [models(architecture, BEST, type, 1).bytes_per_token for type in ("f32", "q8_0", "q4_0")]
    assert read[0] > 2 * read[1] > 2 * read[2]


@pytest.mark.parametrize("architecture", DECODERS)
def test_self_extend_or_why_not(models, architecture: str) -> None:
    """Where it means something, any cut gives the bits of one go, among neighbours."""
    model, rng = models(architecture, BEST, "f32", 1), np.random.default_rng(3)
    if architecture in NOT_EXTENDED:
        with pytest.raises(UnsupportedError, match=NOT_EXTENDED[architecture]):
            model.context(self_extend=SelfExtend(4, 16))
        return
    tokens, neighbour = (random_tokens(model, rng, 300) for _ in range(2))
    for setting in (SelfExtend(3, 20), AutoExtend("log")):
        whole, context = (
            model.context(2, self_extend=setting, context_length=300, ubatch=ubatch)
            for ubatch in (512, 7)
        )
        batch = Batch()
        batch.extend(tokens, 0, 0, logits="all")
        expected, at = whole.decode(batch).logits, 0
        while at < len(tokens):
            batch, end = Batch(), min(at + int(rng.integers(1, 90)), len(tokens))
            batch.extend(neighbour[at:end], at, 0, logits="none")
            batch.extend(tokens[at:end], at, 1, logits="all")
            assert np.array_equal(context.decode(batch).logits, expected[at:end]), (setting, at)
            at = end
