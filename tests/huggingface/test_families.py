"""Directories of families that attend: the same keys, tensors and results as their GGUF files."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from motet import Batch, Model
from motet.conversion.loading import prepared
from motet.huggingface import HuggingFaceDirectory
from motet.weights.gguf import GGUFFile
from motet.weights.source import ModelSource
from tests.huggingface.inverted import write_inverted
from tests.huggingface.sources import differing
from tests.parity.common import KERNELS
from tests.shared import SHARED, needs_shared

PARITY = SHARED / "parity"
GIVEN = ["llama", "gemma2", "qwen3", "qwen3_embedding", "qwen3_reranker", "gemma_embedding"]
GIVEN += ["qwen3moe", "smollm3", "granite", "olmo2", "olmo3", "glm4", "phi3", "ministral3"]
GIVEN += ["granitehybrid", "lfm2", "lfm2moe", "glm4moe", "rwkv7"]
GIVEN += ["falconh1", "nemotronh", "nemotronhmoe"]
GIVEN += ["gemma4", "gemma4moe"]
GIVEN += ["qwen3next", "qwen35", "qwen35moe", "kimilinear"]
GIVEN += ["gptoss", "gptoss_mxfp4"]
GIVEN += ["xlmroberta", "xlmroberta_rank", "modernbert", "nomicbert"]
WRITTEN = ["gemma", "gemma3", "mistral", "qwen2", "gemma2_46l"]
INVERTED = {"mpt": None, "openelm": None, "bert_cls": "cls", "bert_mean": "mean"}
DIFFERENCES = {
    # llama.cpp's converter writes a classifier's labels for a model that has no classifier.
    "xlmroberta": {"bert.classifier.output_labels"},
}


def directory(name: str, folder: Path) -> Path:
    """The directory of a golden model; where there is none, one written into ``folder``."""
    if name in GIVEN:
        return PARITY / name / "hf"
    if name in INVERTED:
        return write_inverted(PARITY / name, folder, INVERTED[name])
    spec = importlib.util.spec_from_file_location("hf_from_gguf", PARITY / "hf_from_gguf.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.write(PARITY / name, folder)
    return folder


def results(source: ModelSource, tokens: np.ndarray) -> list[np.ndarray]:
    """Logits or states of all tokens, and the vector or the scores that are made of them.

    As float32: BF16 weights would round activations.
    """
    source.metadata = {**source.metadata, "tokenizer.ggml.model": "no_vocab"}
    kernels = KERNELS["native"]()
    model = Model(prepared(source, "f32", (), kernels), kernels)
    made = []
    encodes = hasattr(model.family, "encode")
    for pooling in ("none", None):
        context, batch = model.context(pooling=pooling, kv_type="f32"), Batch()
        batch.extend(tokens, 0, logits="all")
        output = (context.encode if encodes else context.decode)(batch)
        made += [x for x in (output.logits, output.hidden) if x is not None]
        made += list(output.pooled.values())
    return made


@needs_shared
@pytest.mark.parametrize("name", [*GIVEN, *WRITTEN, *INVERTED])
def test_a_directory_is_its_conversion(name: str, tmp_path: Path) -> None:
    folder = directory(name, tmp_path / name)
    keys, tensors = differing(folder, PARITY / name / "model.gguf")
    assert (keys, tensors) == (DIFFERENCES.get(name, set()), {})
    tokens = np.load(PARITY / name / "tokens.npy")
    with HuggingFaceDirectory.open(folder) as source:
        ours = results(source, tokens)
    with GGUFFile.open(PARITY / name / "model.gguf") as file:
        theirs = results(file, tokens)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert np.array_equal(a, b)


@needs_shared
def test_stories_go_the_same_way() -> None:
    """The published greedy text, from the directory's weights and from the file's."""
    folder, told = SHARED / "stories260K", []
    for path in (folder / "hf", folder / "stories260K-F32.gguf"):
        model = Model.load(path)
        context, tokens = model.context(), [1]
        for position in range(150):
            batch = Batch()
            batch.add(tokens[-1], position, logits=True)
            tokens.append(int(context.decode(batch).logits[-1].argmax()))
        told.append(tokens)
    assert told[0] == told[1]
    tokenizer = model.tokenizer
    assert tokenizer is not None
    assert (folder / "greedy.txt").read_text().startswith(tokenizer.decode(told[0][1:]).strip())
