"""Texts in, vectors of length 1 out, beside sentence-transformers on the same weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import motet
from tests.shared import SHARED, needs_shared

NAMES = ["nomicbert", "modernbert", "xlmroberta", "qwen3_embedding", "gemma_embedding"]
TEXTS = ["the king was in the house", "a dog and the hat", "he said to the old man", "and", "é 中"]


def theirs(folder: Path) -> Any:
    """Without the file of pooling that versions of the library read differently."""
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    config = json.loads((folder / "hf" / "config.json").read_text())
    pooling = json.loads((folder / "meta.json").read_text())["pooling"]
    mode = {"last": "lasttoken"}.get(pooling, pooling)
    model = modules.Transformer(str(folder / "hf"))
    pooled = modules.Pooling(config["hidden_size"], pooling_mode=mode)
    return library.SentenceTransformer(modules=[model, pooled], device="cpu").float()


@needs_shared
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_those_of_sentence_transformers(name: str):
    folder = SHARED / "parity" / name
    expected = theirs(folder).encode(TEXTS, normalize_embeddings=True)
    with motet.LLM(folder / "model.gguf") as llm:
        np.testing.assert_allclose(llm.embed(TEXTS), expected, rtol=0, atol=2e-6)
        assert np.array_equal(llm.embed(TEXTS[::-1]), llm.embed(TEXTS)[::-1])
