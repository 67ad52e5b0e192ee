"""The solo law with NVFP4 weights and the scales beside them, in matrices, experts, embeddings."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Quant

from motet import Model
from motet.kernels import _cpu
from tests.models.test_scales import SCALED
from tests.models.tiny import shapes, write
from tests.solo.test_families import wide
from tests.solo.voices import SPLITS, UBATCHES, Voices, alone, feed, load


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("nvfp4")

    @cache
    def make(architecture: str, isa: str, threads: int) -> Model:
        path = folder / f"{architecture}.gguf"
        if not path.exists():
            keys = wide(architecture)
            for key, value in keys.items():
                if key.endswith(("expert_feed_forward_length", "feed_forward_length")) and value:
                    keys[key] = 64
            sizes = shapes(keys)
            matrices = {n for n in sizes if SCALED.fullmatch(n)} | {"token_embd.weight"}
            types = {n: Quant.NVFP4 for n in matrices if sizes[n][-1] % 64 == 0}
            assert len(types) > 5
            stems = {n: n.removesuffix("weight") for n in types if n != "token_embd.weight"}
            scales = {f"{stem}scale": sizes[n][:-2] or (1,) for n, stem in stems.items()}
            write(path, keys, sizes | scales, types)
        return load(path, isa, threads)

    return make


@pytest.mark.parametrize("isa", _cpu.supported())
@pytest.mark.parametrize("architecture", ["llama", "qwen3moe", "qwen3next", "granitehybrid"])
def test_random_batches(models, architecture: str, isa: str) -> None:
    for seed in range(2):
        rng = np.random.default_rng([seed, len(architecture), len(isa)])
        model, other = (models(architecture, isa, threads) for threads in (1, 2))
        voices = Voices.random(model, rng, int(rng.integers(3, 9)), 80)
        context = model.context(
            max_sequences=len(voices.tokens),
            ubatch=int(rng.choice(UBATCHES)),
            split=SPLITS[int(rng.integers(3))],
        )
        rows = feed(context, voices.entries(rng), rng)
        expected = [alone(other, tokens) for tokens in voices.tokens]
        assert rows
        for (sequence, position), logits in rows.items():
            assert np.array_equal(logits, expected[sequence][position]), (sequence, position)
