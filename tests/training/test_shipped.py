"""The model in the package is the one its record describes, and does what the record says."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from training.reference import Reference

DATA = Path(__file__).parents[2] / "src" / "motet" / "data"


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads((DATA / "motet-tiny.json").read_text())


@pytest.fixture(scope="module")
def model() -> Reference:
    return Reference(DATA / "motet-tiny.gguf")


def encode(model: Reference, text: str) -> list[int]:
    """Greedy longest piece: enough to spell a prompt with tokens of the model."""
    pieces = {p: i for i, p in enumerate(model.metadata["tokenizer.ggml.tokens"])}
    text, ids = "▁" + text.replace(" ", "▁"), [model.metadata["tokenizer.ggml.bos_token_id"]]
    while text:
        size = next(n for n in range(min(16, len(text)), 0, -1) if text[:n] in pieces)
        ids.append(pieces[text[:size]])
        text = text[size:]
    return ids


def test_record_is_of_this_file(record):
    raw = (DATA / "motet-tiny.gguf").read_bytes()
    assert len(raw) == record["file"]["bytes"]
    assert hashlib.sha256(raw).hexdigest() == record["file"]["sha256"]


def test_metadata(model, record):
    m = model.metadata
    assert m["general.architecture"] == "gemma2"
    assert m["general.name"] == record["name"]
    assert m["gemma2.context_length"] == 256 > m["gemma2.attention.sliding_window"]
    assert m["gemma2.attention.head_count"] > m["gemma2.attention.head_count_kv"]
    assert sum(w.size for w in model.weights.values()) == record["parameters"]
    assert m["tokenizer.ggml.model"] == "llama"


def test_record_tells_of_the_training(record):
    assert record["training"]["steps"] == record["training"]["log"][-1]["step"]
    assert len(record["data"]) == 5
    assert all(len(d["sha256"]) == 64 for d in record["data"])
    found = [share for depths in record["pass_key_accuracy"].values() for share in depths.values()]
    assert np.mean(found) > 0.98


def test_finds_keys(model):
    filler = " The sun was warm and the birds were singing in the trees near the old house."
    for key in ("58219", "30746"):
        for before in (0, 3):
            told = filler * before + f" The pass key is {key}. Remember it." + filler * (4 - before)
            prompt = f"One day it was late.{told} What is the pass key? The pass key is {key}"
            ids = encode(model, prompt)
            assert 100 < len(ids) <= 256
            assert model.logits(ids)[-6:-1].argmax(-1).tolist() == ids[-5:]


def test_writes_the_story_of_the_record(model, record):
    for prompt, story in record["greedy"].items():
        ids = [model.metadata["tokenizer.ggml.bos_token_id"], *record["tokenized"][prompt]]
        pieces = model.metadata["tokenizer.ggml.tokens"]
        for _ in range(12):
            ids.append(int(model.logits(ids)[-1].argmax()))
        text = "".join(pieces[i] for i in ids[1:]).replace("▁", " ").replace("<0x0A>", "\n")
        assert story.startswith(text.strip())
