"""The tiny T5 in the package is what its record says, and answers as it says."""

import hashlib
import json

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader

from motet import LLM
from tests.tokenizer.vocabularies import loaded
from tests.training.test_shipped import DATA

NAME = "motet-tiny-t5"


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads((DATA / f"{NAME}.json").read_text())


def test_record_is_of_this_file(record):
    raw = (DATA / f"{NAME}.gguf").read_bytes()
    assert len(raw) == record["file"]["bytes"] < 2_000_000
    assert hashlib.sha256(raw).hexdigest() == record["file"]["sha256"]


def test_keys_and_tensors(record):
    reader = GGUFReader(DATA / f"{NAME}.gguf")
    keys = {name: field.contents() for name, field in reader.fields.items()}
    assert keys["general.architecture"] == "t5"
    assert keys["general.name"] == record["name"] == NAME
    assert keys["tokenizer.ggml.model"] == "t5"
    assert keys["t5.decoder_start_token_id"] == keys["tokenizer.ggml.padding_token_id"] == 0
    own = [*(f"attn_{part}" for part in ("norm", "q", "k", "v", "o"))]
    ffn = ["ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
    expected = {"token_embd.weight"}
    for side, layers, parts in (
        ("enc", keys["t5.block_count"], [*own, *ffn]),
        ("dec", keys["t5.decoder_block_count"], [*own, *(f"cross_{p}" for p in own), *ffn]),
    ):
        expected |= {f"{side}.blk.{i}.{part}.weight" for i in range(layers) for part in parts}
        expected |= {f"{side}.blk.0.attn_rel_b.weight", f"{side}.output_norm.weight"}
    types = {t.name: t.tensor_type for t in reader.tensors}
    assert types.keys() == expected
    assert types["dec.blk.0.attn_rel_b.weight"] == GGMLQuantizationType.F32
    assert types["dec.blk.0.cross_attn_k.weight"] == GGMLQuantizationType.Q8_0
    assert sum(int(np.prod(t.shape)) for t in reader.tensors) == record["parameters"]


def test_texts_are_spelt_as_in_training(record):
    tokenizer = loaded(DATA / f"{NAME}.gguf")
    for text, ids in record["tokenized"].items():
        assert tokenizer.encode(text, add_special=False) == ids


def test_what_it_has_learnt(record):
    assert min(record["exact_match"]["key"].values()) > 0.95
    assert min(record["exact_match"]["last"].values()) > 0.8
    assert min(record["exact_match"]["change"].values()) > 0.2
    assert max(share for kind in record["untrained"].values() for share in kind.values()) == 0


def test_motet_answers_as_the_record_says(record):
    with LLM(DATA / f"{NAME}.gguf") as llm:
        for prompt, answer in record["answers"].items():
            assert llm.generate(prompt, temperature=0, max_tokens=40).text.strip() == answer


def test_answers_are_those_of_the_record(record):
    torch = pytest.importorskip("torch", reason="the oracle needs torch, which is not installed")
    pytest.importorskip("transformers", reason="the oracle is not installed")
    from tests.training import oracles

    oracle = oracles.t5(DATA / f"{NAME}.gguf")
    tokenizer = loaded(DATA / f"{NAME}.gguf")
    for prompt, answer in record["answers"].items():
        ids = torch.tensor([tokenizer.encode(prompt)])
        said = oracle.generate(ids, max_new_tokens=40, do_sample=False)[0].tolist()
        assert tokenizer.decode([i for i in said if i > 1]).strip() == answer
