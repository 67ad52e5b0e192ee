import numpy as np
import pytest

from motet.errors import OptionError
from motet.evals.long_perplexity import Likelihoods, by_position, passages_of
from motet.evals.perplexity import perplexity
from motet.evals.variants import Variant
from motet.self_extend import AutoExtend, SelfExtend
from tests.evals.models import loaded
from tests.scripted import BOS, ScriptedModel, noise

PLAIN = Variant("plain", None)


def soft(history):
    return np.where(np.isneginf(noise(history)), 0, noise(history)).astype(np.float32)


def last(model, passages, *variants: Variant) -> Likelihoods:
    *_, result = by_position(model, passages, variants)
    return result


def test_each_token_given_those_before_it():
    passages = np.array([[BOS, 3, 4, 5, 6], [BOS, 9, 8, 7, 6]])
    result = last(ScriptedModel(soft), passages, PLAIN)
    assert result.nll.shape == (1, 2, 4)
    for passage, nlls in zip(passages, result.nll[0], strict=True):
        for at, nll in enumerate(nlls):
            logits = soft(passage[: at + 1].tolist()).astype(np.float64)
            log_p = logits[passage[at + 1]] - np.log(np.exp(logits).sum())
            assert nll == pytest.approx(-log_p, rel=1e-12)


def test_within_the_trained_length_it_is_perplexitys():
    model = loaded("motet-tiny")
    tokens = np.random.default_rng(1).integers(3, model.config.n_vocab, 256)
    tokens[0] = model.tokenizer.bos
    result = last(model, tokens[None], PLAIN, Variant("auto", AutoExtend()))
    *_, expected = perplexity(model, tokens.tolist(), ctx=256)
    assert result.nll[0, 0, 128:].mean() == expected.nll
    assert np.array_equal(result.nll[0], result.nll[1])


def test_beyond_it_the_variants_part_after_the_trained_length():
    model = loaded("motet-tiny")
    ids = model.tokenizer.encode("The grass is green. The sky is blue. " * 60)
    plain, extended = last(
        model, np.array(ids[:600])[None], PLAIN, Variant("auto", AutoExtend())
    ).nll[:, 0]
    assert np.array_equal(plain[:255], extended[:255])
    assert not np.array_equal(plain[255:], extended[255:])


def test_buckets_cover_every_position_once():
    nll = np.random.default_rng(0).normal(size=(2, 3, 99))
    buckets = Likelihoods(("a", "b"), nll).means()
    places = [p for bucket in buckets for p in range(bucket.first, bucket.last + 1)]
    assert places == list(range(1, 100))
    assert [bucket.first for bucket in buckets] == [1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91]
    for bucket in buckets:
        part = nll[:, :, bucket.first - 1 : bucket.last]
        assert bucket.nll == pytest.approx(part.mean(axis=(1, 2)))


def test_passages_are_spread_over_the_text():
    tokens = list(range(100, 200))
    assert passages_of(tokens, 40, 3, None)[:, 0].tolist() == [100, 130, 160]
    table = passages_of(tokens, 40, 3, 7)
    assert table[:, 0].tolist() == [7, 7, 7] and table[2, 1:].tolist() == tokens[61:]
    assert passages_of(tokens, 100, 1, None).tolist() == [tokens]


def test_refusals():
    with pytest.raises(OptionError, match="text has 10 tokens, and a passage takes 11"):
        passages_of(range(10), 11, 1, None)
    with pytest.raises(OptionError, match="length is 3"):
        passages_of(range(10), 3, 1, None)
    passages = np.zeros((1, 900), np.int64)
    with pytest.raises(OptionError, match="beyond what Self-Extend"):
        by_position(loaded("motet-tiny"), passages, [Variant("short", SelfExtend(2, 64))])
