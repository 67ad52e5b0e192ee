"""The embedding model in the package is what its record says, and tells one story from another."""

import hashlib
import json

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader

from motet import Batch, Model
from tests.training.test_shipped import DATA

NAME = "motet-tiny-embedding"
BLOCK = [
    *(f"{part}.{kind}" for part in ("attn_q", "attn_k", "attn_v") for kind in ("weight", "bias")),
    *(f"{part}.{kind}" for part in ("attn_output", "ffn_up") for kind in ("weight", "bias")),
    *(f"{part}.{kind}" for part in ("ffn_down", "attn_output_norm") for kind in ("weight", "bias")),
    *(f"layer_output_norm.{kind}" for kind in ("weight", "bias")),
]
STORIES = [
    (
        "Once there was a little rabbit who wanted to find a carrot in the garden.",
        "The rabbit dug and dug until it saw a big orange carrot, and it ate the carrot.",
    ),
    (
        "Tom and his dad went to the lake with a red boat.",
        "The boat floated on the lake until the wind blew it away, and Tom cried for his boat.",
    ),
    (
        "The doctor gave the sick girl some medicine for her cough.",
        "After the medicine the girl thanked the doctor, and her cough went away.",
    ),
    (
        "Mom baked a chocolate cake for the birthday party.",
        "Everyone at the party sang and ate the cake with chocolate on top.",
    ),
]


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads((DATA / f"{NAME}.json").read_text())


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(DATA / f"{NAME}.gguf", 1)


def vectors(model: Model, texts: list[str]) -> np.ndarray:
    context = model.context(max_sequences=len(texts))
    batch = Batch()
    for seq, text in enumerate(texts):
        batch.extend(model.tokenizer.encode(text), 0, seq)
    pooled = context.encode(batch).pooled
    found = np.stack([pooled[seq] for seq in range(len(texts))])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_record_is_of_this_file(record):
    raw = (DATA / f"{NAME}.gguf").read_bytes()
    assert len(raw) == record["file"]["bytes"] < 2_000_000
    assert hashlib.sha256(raw).hexdigest() == record["file"]["sha256"]


def test_keys_and_tensors(record):
    reader = GGUFReader(DATA / f"{NAME}.gguf")
    keys = {name: field.contents() for name, field in reader.fields.items()}
    assert keys["general.architecture"] == "bert"
    assert keys["general.name"] == record["name"] == NAME
    assert keys["tokenizer.ggml.model"] == "bert"
    assert keys["bert.pooling_type"] == 1
    assert keys["bert.attention.causal"] is False
    assert keys["bert.context_length"] == 256
    layers = range(keys["bert.block_count"])
    first = ["token_embd", "position_embd", "token_types", "token_embd_norm"]
    expected = {f"blk.{i}.{part}" for i in layers for part in BLOCK}
    expected |= {f"{part}.weight" for part in first} | {"token_embd_norm.bias"}
    assert {t.name for t in reader.tensors} == expected
    assert sum(int(np.prod(t.shape)) for t in reader.tensors) == record["parameters"]
    types = {t.name: t.tensor_type for t in reader.tensors}
    assert types["position_embd.weight"] == GGMLQuantizationType.F32
    assert types["blk.0.ffn_up.weight"] == GGMLQuantizationType.Q8_0


def test_texts_are_spelt_as_in_training(model, record):
    for text, ids in record["tokenized"].items():
        assert model.tokenizer.encode(text) == ids


def test_training_was_worth_it(record):
    found = {name: score["stories"]["mrr"] for name, score in record["retrieval"].items()}
    assert found["model"] > found["begun"] > found["random"]
    assert found["model"] > found["bag_of_words"]


def test_sentences_of_one_story_lie_nearest(model):
    first = vectors(model, [a for a, _ in STORIES])
    second = vectors(model, [b for _, b in STORIES])
    likeness = first @ second.T
    assert likeness.argmax(1).tolist() == list(range(len(STORIES)))


def test_motet_and_torch_agree(model):
    torch = pytest.importorskip("torch", reason="the oracle needs torch, which is not installed")
    pytest.importorskip("transformers", reason="the oracle is not installed")
    from tests.training import oracles

    ids = model.tokenizer.encode(" ".join(STORIES[0]))
    with torch.no_grad():
        states = oracles.bert(DATA / f"{NAME}.gguf")(torch.tensor([ids])).last_hidden_state
    expected = states[0].mean(0).numpy()
    ours = vectors(model, [" ".join(STORIES[0])])[0]
    assert ours @ expected / np.linalg.norm(expected) > 0.999  # Q8_0 rounds activations
