"""The shared random models: exact ones against transformers, quantised ones against llama.cpp."""

import json

import numpy as np
import pytest

from motet import Batch, Model, Output
from motet.weights.gguf import GGUFFile
from tests.models.running import logits
from tests.parity.common import KERNELS, tolerance
from tests.shared import SHARED, needs_shared

PARITY = SHARED / "parity"
EXACT = ["llama", "mistral", "qwen2", "gemma", "gemma2", "gemma2_46l", "gemma3"]
EXACT += ["deepseek2", "deepseek2_lite27", "deepseek2_yarn", "deepseek3"]
EXACT += ["qwen3moe", "smollm3", "granite", "olmo2", "olmo3", "glm4", "phi3", "ministral3"]
EXACT += ["granitehybrid", "falconh1", "nemotronh", "nemotronhmoe", "lfm2", "lfm2moe", "glm4moe"]
EXACT += ["gemma4", "gemma4moe"]
EXACT += ["qwen3next", "qwen35", "qwen35moe", "kimilinear"]
EXACT += ["gptoss"]
EXACT += ["qwen3", "openelm", "mamba", "falcon_mamba", "mamba2", "jamba", "rwkv6", "rwkv7", "mpt"]
TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q4_K_S", "Q5_K_S", "Q6_K"]
TYPES += ["IQ4_NL", "IQ4_XS", "Q4_K_M_mix"]

pytestmark = needs_shared


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str, kernels: str) -> None:
    tokens = np.load(PARITY / name / "tokens.npy")
    ours = logits(PARITY / name / "model.gguf", KERNELS[kernels](), tokens)
    theirs = np.load(PARITY / name / "logits_hf.npy")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance(name))


def test_every_quantised_type_is_tested() -> None:
    for name in ("llama_q", "gemma2_q"):
        there = [p.stem.removeprefix("model-") for p in (PARITY / name).glob("model-*.gguf")]
        assert sorted(there) == sorted(TYPES)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("name", ["llama_q", "gemma2_q"])
def test_quantised_is_as_near_as_llama_cpp(name: str, type: str, kernels: str) -> None:
    folder = PARITY / name
    ours = logits(folder / f"model-{type}.gguf", KERNELS[kernels](), np.load(folder / "tokens.npy"))
    exact = np.load(folder / f"logits_{type}_dequant_hf.npy")
    meta = json.loads((folder / "meta.json").read_text())["quantised"][type]
    assert np.abs(ours - exact).mean() <= meta["llamacpp_vs_dequant_f32"]["mean_abs"]


@pytest.mark.parametrize("kernels", KERNELS)
def test_mxfp4_is_as_near_as_llama_cpp(kernels: str) -> None:
    """llama.cpp is 0.0307 from the exact logits with its own rotary embedding, which is rounded."""
    folder = PARITY / "gptoss_mxfp4"
    ours = logits(folder / "model.gguf", KERNELS[kernels](), np.load(folder / "tokens.npy"))
    assert np.abs(ours - np.load(folder / "logits_hf.npy")).mean() <= 0.0307


ENCODERS = ["bert_cls", "bert_mean", "nomicbert", "modernbert", "xlmroberta", "xlmroberta_rank"]
ENCODERS += ["gemma_embedding"]
EMBEDDERS = [*ENCODERS, "qwen3_embedding", "qwen3_reranker"]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", EMBEDDERS)
def test_embeddings(name: str, kernels: str) -> None:
    """Hidden states, the pooled vector and a classifier's scores are Hugging Face's."""
    folder = PARITY / name
    tokens, meta = np.load(folder / "tokens.npy"), json.loads((folder / "meta.json").read_text())
    with GGUFFile.open(folder / "model.gguf") as file:
        file.metadata = {**file.metadata, "tokenizer.ggml.model": "no_vocab"}
        model = Model(file, KERNELS[kernels]())

    def run(pooling: str | None) -> Output:
        context, batch = model.context(pooling=pooling), Batch()
        batch.extend(tokens, 0, logits="all")
        return (context.encode if name in ENCODERS else context.decode)(batch)

    hidden = run("none").hidden
    assert hidden is not None
    near = {"rtol": 0, "atol": 3e-5}
    np.testing.assert_allclose(hidden, np.load(folder / "embeddings_hf.npy"), **near)
    pooled = run(meta["pooling"]).pooled[0]
    np.testing.assert_allclose(pooled, np.load(folder / "pooled_hf.npy").reshape(-1), **near)
    if "rank_hf" in meta:
        np.testing.assert_allclose(run(None).pooled[0], meta["rank_hf"], **near)
    else:
        assert np.array_equal(run(None).pooled[0], pooled)
