from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.random_models import TYPES, write
from benchmarks.shapes import MODELS, DeepSeek2, stays_float32
from benchmarks.shapes_gpt_oss import GptOss
from motet.model import Model
from motet.weights.formats import TensorType, dequantize
from motet.weights.gguf import GGUFFile

SMALL = {
    name: replace(shape, layers=2, d_model=288, vocabulary=1000)  # type: ignore[type-var]
    for name, shape in MODELS.items()
    if name != "deepseek2-lite"
}
for _name in ("granite-4.0-h-tiny-10-layers", "qwen3-30b-a3b-3-layers"):
    SMALL[_name] = replace(SMALL[_name], experts=2, used=1)  # type: ignore[type-var]
SMALL["gpt-oss-20b-2-layers"] = GptOss(2, 288, 1000, experts=2, used=1, expert_width=288)
del SMALL["gpt-oss-20b-4-layers"], SMALL["qwen3-4b"]  # of the kinds of others
SMALL["deepseek2-lite-8-experts"] = DeepSeek2(2, 288, 1000, experts=2, used=1, expert_width=288)


EVERYWHERE = ("q4_0", "q8_0", "q4_k", "f16", "bf16")
CASES = [(model, type) for model in SMALL for type in EVERYWHERE]
CASES += [("qwen2-1.5b", type) for type in TYPES if type not in (*EVERYWHERE, "mxfp4")]
CASES += [("gpt-oss-20b-2-layers", "mxfp4")]


@pytest.mark.parametrize(("model", "type"), CASES)
def test_weights_are_finite_scaled_and_the_same_again(
    tmp_path: Path, model: str, type: str
) -> None:
    path, again = tmp_path / "a.gguf", tmp_path / "b.gguf"
    write(SMALL[model], TYPES[type], path)
    write(SMALL[model], TYPES[type], again)
    assert path.read_bytes() == again.read_bytes()
    assert not list(tmp_path.glob("*.partial"))
    with GGUFFile.open(path) as file:
        assert file.architecture == MODELS[model].architecture
        assert file.metadata[f"{file.architecture}.vocab_size"] == 1000
        for name, info in file.tensors.items():
            values = dequantize(file.raw(name), info.type)
            assert np.isfinite(values).all()
            if stays_float32(name, info.shape):
                assert info.type is TensorType.F32
                parts = "ssm", "gate_inp", "rel_b", ".bias", "time_mix", "sinks", "shortconv"
                known = any(part in name for part in parts)
                assert (values > 0).all() or known
                continue
            # 288 is no multiple of 256, so there Q4_K gives way to Q5_0, and others to IQ4_NL.
            instead = TensorType.Q5_0 if type == "q4_k" else TensorType.IQ4_NL
            fits = info.columns % TYPES[type].block == 0
            if type == "mxfp4" and "_exps" not in name:  # as in gpt-oss's files
                instead, fits = TensorType.Q8_0, False
            assert info.type is (TYPES[type] if fits else instead)
            # These have one exponent a matrix, so their scale is a power of two.
            low, high = (2**-0.51, 2**0.51) if type in ("f16", "bf16", "mxfp4") else (0.97, 1.06)
            assert low < np.sqrt(np.mean(values**2) * info.columns) < high
            assert abs(values.mean()) * np.sqrt(info.columns) < 0.05


CUT = (
    *("jamba-like", "deepseek2-lite-8-experts"),
    *("gemma2-2b-6-layers", "llama-3.2-1b-1-layer", "granite-4.0-h-tiny-10-layers"),
    *("gpt-oss-20b-2-layers", "gpt-oss-20b-4-layers", "qwen3-30b-a3b-3-layers", "qwen3.5-0.8b"),
)
"""Made for a measurement, with fewer layers, or published with parts that are left out here."""


def test_published_sizes() -> None:
    """Parameters of the published models, from the shapes that are written; some have no size."""
    counts = {
        model: sum(int(np.prod(dims)) for name, dims in shape.tensors() if name[:4] != "rope")
        for model, shape in MODELS.items()
        if model not in CUT
    }
    assert counts == {
        "gemma2-2b": 2_614_341_888,
        "gemma3-1b": 999_885_952,
        "qwen2-1.5b": 1_543_714_304,
        "llama-3.2-1b": 1_235_814_400,
        "deepseek2-lite": 15_706_484_224,
        "mamba-130m": 129_135_360,
        "mamba-1.4b": 1_372_178_432,
        "t5-base": 222_903_552,
        # With what the converter repeats in the first layer.
        "rwkv7-0.4b": 450_767_872 + 132_096,
        "falcon-h1-0.5b": 521_411_104,
        "qwen3-0.6b": 596_049_920,
        "qwen3-4b": 4_022_468_096,
        "lfm2-1.2b": 1_170_340_608,
    }


def test_llama3_divisors() -> None:
    shape = MODELS["llama-3.2-1b"]
    divisors = shape.plain("rope_freqs.weight", (32,), np.random.default_rng(0))
    assert divisors.shape == (32,)
    assert divisors[0] == 1
    assert divisors[-1] == 32
    assert (np.diff(divisors) >= 0).all()


def test_made_up_words(tmp_path: Path) -> None:
    write(SMALL["gemma2-2b"], TYPES["q4_0"], tmp_path / "a.gguf", words=True)
    tokenizer = Model.load(tmp_path / "a.gguf").tokenizer
    assert tokenizer is not None and tokenizer.piece(999) == b" w999"
