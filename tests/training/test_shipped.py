"""Each model in the package is the one its record describes, and does what the record says."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from training.reference import Reference, open_reference

DATA = Path(__file__).parents[2] / "src" / "motet" / "data"
NAMES = ["motet-tiny", "motet-tiny-mamba", "motet-tiny-jamba"]
FIND_KEYS = ["motet-tiny", "motet-tiny-jamba"]
OTHERS = ["motet-tiny-embedding", "motet-tiny-t5"]
"""Which test_shipped_embedding.py and test_shipped_t5.py test."""


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def record(name) -> dict:
    return json.loads((DATA / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def model(name) -> Reference:
    return open_reference(DATA / f"{name}.gguf")


def encode(model: Reference, text: str) -> list[int]:
    """Greedy longest piece: enough to spell a prompt with tokens of the model."""
    pieces = {p: i for i, p in enumerate(model.metadata["tokenizer.ggml.tokens"])}
    text, ids = "▁" + text.replace(" ", "▁"), [model.metadata["tokenizer.ggml.bos_token_id"]]
    while text:
        size = next(n for n in range(min(16, len(text)), 0, -1) if text[:n] in pieces)
        ids.append(pieces[text[:size]])
        text = text[size:]
    return ids


def test_all_that_ships_is_tested():
    assert sorted(path.stem for path in DATA.glob("*.gguf")) == sorted(NAMES + OTHERS)


def test_record_is_of_this_file(name, record):
    raw = (DATA / f"{name}.gguf").read_bytes()
    assert len(raw) == record["file"]["bytes"] < 3_000_000
    assert hashlib.sha256(raw).hexdigest() == record["file"]["sha256"]


def test_metadata(name, model, record):
    m = model.metadata
    assert m["general.name"] == record["name"] == name
    assert model.m["context_length"] == 256
    assert sum(w.size for w in model.weights.values()) == record["parameters"]
    assert m["tokenizer.ggml.model"] == "llama"


def test_gemma_slides_and_shares_heads():
    m = open_reference(DATA / "motet-tiny.gguf").m
    assert m["attention.sliding_window"] < m["context_length"]
    assert m["attention.head_count"] > m["attention.head_count_kv"]


def test_mamba_is_recurrent_throughout():
    model = open_reference(DATA / "motet-tiny-mamba.gguf")
    assert model.metadata["general.architecture"] == "mamba"
    assert not any("attn_q" in name for name in model.weights)


def test_jamba_is_a_hybrid_with_experts():
    model = open_reference(DATA / "motet-tiny-jamba.gguf")
    assert model.metadata["general.architecture"] == "jamba"
    layers = range(model.m["block_count"])
    attention = [f"blk.{i}.attn_q" in model.weights for i in layers]
    assert [heads > 0 for heads in model.m["attention.head_count_kv"]] == attention
    assert [f"blk.{i}.ssm_in" in model.weights for i in layers] == [not a for a in attention]
    assert 0 < sum(attention) < len(attention)
    experts = [f"blk.{i}.ffn_gate_inp" in model.weights for i in layers]
    assert experts == [i % 2 == 1 for i in layers]
    assert model.m["expert_used_count"] < model.m["expert_count"]


def test_one_vocabulary(model):
    field = "tokenizer.ggml.tokens"
    assert model.metadata[field] == open_reference(DATA / "motet-tiny.gguf").metadata[field]


def test_record_tells_of_the_training(record):
    assert record["training"]["steps"] == record["training"]["log"][-1]["step"]
    assert len(record["data"]) == 5
    assert all(len(d["sha256"]) == 64 for d in record["data"])


def test_better_than_pairs_of_tokens(record):
    losses, bigram = record["held_out_loss"], record["bigram_loss"]
    assert losses.keys() == bigram.keys()
    gains = [bigram[text] - losses[text] for text in bigram]
    assert min(gains) > 0
    assert np.mean(gains) > 0.25


@pytest.mark.parametrize("name", FIND_KEYS)
def test_finds_keys(name):
    record = json.loads((DATA / f"{name}.json").read_text())
    model = open_reference(DATA / f"{name}.gguf")
    found = [share for depths in record["pass_key_accuracy"].values() for share in depths.values()]
    assert np.mean(found) > 0.98
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
