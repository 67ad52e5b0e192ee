import math
from typing import Any

import numpy as np
import pytest

from motet.errors import OptionError
from motet.evals.perplexity import Perplexity, perplexity
from motet.model import Model
from tests.evals.models import MODELS, loaded
from tests.scripted import BOS, ScriptedModel, noise
from tests.shared import SHARED, needs_shared


def soft(history):
    """Any token may come."""
    return np.where(np.isneginf(noise(history)), 0, noise(history)).astype(np.float32)


TOKENS = np.random.default_rng(0).integers(0, 256, 75).tolist()


def last(model: Any, tokens=TOKENS, **options) -> Perplexity:
    *_, result = perplexity(model, tokens, **options)
    return result


def by_hand(ctx: int, chunks: int, bos: int | None) -> list[list[float]]:
    """llama.cpp's loop, one token at a time."""
    nlls = []
    for chunk in range(chunks):
        tokens = TOKENS[chunk * ctx : (chunk + 1) * ctx]
        seen = tokens.copy()
        if bos is not None:
            seen[0] = bos
        nlls.append([])
        for position in range(ctx // 2, ctx - 1):
            logits = soft(seen[: position + 1]).astype(np.float64)
            log_p = logits[tokens[position + 1]] - np.log(np.exp(logits).sum())
            nlls[-1].append(float(-log_p))
    return nlls


@pytest.mark.parametrize(("ctx", "chunks"), [(16, 4), (15, 5), (4, 18), (75, 1)])
@pytest.mark.parametrize("bos", [BOS, None])
def test_the_definition(ctx, chunks, bos):
    model = ScriptedModel(soft)
    model.tokenizer.add_bos = bos is not None
    result = last(model, ctx=ctx)
    nlls = by_hand(ctx, chunks, bos)
    flat = np.array(nlls).ravel()
    assert result.tokens == flat.size
    assert result.nll == pytest.approx(flat.mean(), rel=1e-12)
    assert result.perplexity == pytest.approx(math.exp(flat.mean()), rel=1e-12)
    assert result.chunks == pytest.approx([np.mean(chunk) for chunk in nlls], rel=1e-12)
    error = math.exp(flat.mean()) * math.sqrt(flat.var() / (flat.size - 1))
    assert result.error == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("parallel", [2, 3, 4, 9])
def test_chunks_at_once_give_the_same(parallel):
    assert last(ScriptedModel(soft), ctx=16, parallel=parallel) == last(ScriptedModel(soft), ctx=16)


CTX = 32
MATRIX = {
    "1 chunk per batch": {"batch": CTX, "ubatch": CTX},
    "4 chunks per batch": {"batch": 4 * CTX, "ubatch": 4 * CTX},
    "4 batches per chunk": {"batch": CTX // 4, "ubatch": CTX},
    "4 ubatches per batch": {"batch": CTX, "ubatch": CTX // 4},
    "all at once": {"batch": 4 * CTX, "parallel": 3, "ubatch": 5},
}
"""What llama.cpp's pull request 8526, which gave recurrent models batches, was tested with."""


@pytest.mark.parametrize("split", ["simple", "equal", "sequence"])
@pytest.mark.parametrize("name", MODELS)
def test_no_way_to_batch_changes_a_digit(name, split):
    model = loaded(name)
    tokens = np.random.default_rng(1).integers(3, model.config.n_vocab, 9 * CTX).tolist()
    expected = last(model, tokens, ctx=CTX)
    assert len(set(expected.chunks)) == 9
    for options in MATRIX.values():
        assert last(model, tokens, ctx=CTX, split=split, **options) == expected


@pytest.mark.parametrize("name", ["mamba", "rwkv6"])
def test_without_attention_a_chunk_may_be_longer_than_the_training(name):
    model = loaded(name)
    ctx = model.config.context_length + 44
    tokens = np.random.default_rng(1).integers(3, model.config.n_vocab, ctx).tolist()
    assert last(model, tokens, ctx=ctx).tokens == ctx - ctx // 2 - 1
    with pytest.raises(OptionError, match="trained for 256"):
        perplexity(loaded("jamba"), tokens, ctx=ctx)


def test_batches_are_as_asked():
    def sizes(**options) -> list[int]:
        model = ScriptedModel(soft)
        last(model, ctx=16, **options)
        return [len(batch) for batch in model.made.batches]

    assert sizes() == [15] * 4
    assert sizes(batch=32) == [30, 30]
    assert sizes(batch=70) == [60]
    assert sizes(batch=4) == [4, 4, 4, 3] * 4
    assert sizes(parallel=2) == [30, 30]
    assert sizes(parallel=2, batch=20) == [20, 10, 20, 10]


def test_large_vocabularies_are_scored_in_parts(monkeypatch):
    whole = last(ScriptedModel(soft), ctx=16, parallel=2)
    monkeypatch.setattr("motet.evals.predictions.LOGIT_VALUES", 2 * 3 * 258)
    assert last(ScriptedModel(soft), ctx=16, parallel=2) == whole


def test_running_values_and_a_limit_on_chunks():
    values = list(perplexity(ScriptedModel(soft), TOKENS, ctx=16))  # type: ignore[arg-type]
    assert [len(value.chunks) for value in values] == [1, 2, 3, 4]
    assert last(ScriptedModel(soft), ctx=16, chunks=2) == values[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ctx": 76}, "the text has 75 tokens, and one chunk takes 76"),
        ({"ctx": 3}, "ctx is 3"),
        ({"ctx": 129}, "ctx is 129, but the model was trained for 128"),
        ({"chunks": 0}, "chunks is 0"),
        ({"parallel": 0}, "parallel is 0"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_unusable_options_are_refused_at_the_call(options, message):
    with pytest.raises(OptionError, match=message):
        perplexity(ScriptedModel(soft), TOKENS, **options)  # type: ignore[arg-type]


# Negative log probabilities of the first eight chunks of tinystories.txt by llama.cpp (of
# llama-cpp-python 0.3.36): python benchmarks/peer_perplexity.py
# ../shared/data/stories260K/stories260K-F32.gguf ../shared/data/text/tinystories.txt --chunks 8
LLAMA_CPP = (
    1.6213152560080313,
    1.53270870885315,
    1.2995367750514768,
    1.2072733183535445,
    1.1939084443730261,
    1.4816590240449292,
    1.6729666812291417,
    1.4813201356664283,
)


@needs_shared
def test_stories_as_in_llama_cpp():
    model = Model.load(SHARED / "stories260K" / "stories260K-F32.gguf")
    text = (SHARED / "text" / "tinystories.txt").read_text("utf-8")[:30_000]
    tokens = model.tokenizer.encode(text)
    result = last(model, tokens, chunks=8, parallel=4)
    assert result.chunks == pytest.approx(LLAMA_CPP, abs=1e-5)
    assert last(model, tokens, chunks=8, ubatch=100) == result
