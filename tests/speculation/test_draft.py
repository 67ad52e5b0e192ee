"""A draft model beside a model: it keeps in step, whatever is accepted, and fails without harm."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from motet import Batch, Model, OptionError
from motet.cli.demo import shipped_model
from motet.errors import NumericalError, UnsupportedError
from motet.sampling import Sampler, Sampling
from motet.speculation import DraftModel, Wanted, draft
from motet.speculation.vocabulary import common_tokens
from tests.tokenizer.vocabularies import CONTROL, NORMAL, UNUSED, bpe_metadata, made, spm_metadata

LENGTH = 200
KINDS = ["", "-mamba", "-jamba"]
DRAWN = Sampling(seed=4)
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {kind: Model.load(shipped_model().with_name(f"motet-tiny{kind}.gguf")) for kind in KINDS}


def ids(model: Model, text: str = "Once upon a time, there was a little girl") -> list[int]:
    assert model.tokenizer is not None
    return model.tokenizer.encode(text)


def proposed(model: DraftModel, *wanted: Wanted) -> list[tuple[int, ...]]:
    return [each.tokens if each else () for each in model.propose(wanted)]


def rows(model: Model, tokens: list[int]) -> np.ndarray:
    batch = Batch()
    batch.extend(tokens, 0, logits="all")
    return model.context().decode(batch).logits


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_says_what_it_drafts_for_itself(
    models: dict[str, Model], kind: str, sampling: Sampling
) -> None:
    model = models[kind]
    drafter = DraftModel(model, model, 1, LENGTH)
    sampler = Sampler(sampling, ids(model))
    sampler.sample(rows(model, sampler.history)[-1])
    accepted = 0
    for _ in range(6):
        before = (sampler.copy(), list(sampler.history))
        (tokens,) = proposed(drafter, Wanted(0, sampler.history, 6, sampler=sampler))
        assert sampler.history == before[1]
        start = len(sampler.history) - 1
        logits = rows(model, [*sampler.history, *tokens])[start:]
        assert sampler.copy().sample(logits[0]) == before[0].sample(logits[0])
        for row, token in zip(logits, (*tokens, None), strict=True):
            assert token in (None, sampler.sample(row))
        accepted += len(tokens)
    assert accepted > 6


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_in_step_whatever_is_accepted(models: dict[str, Model], kind: str) -> None:
    model, rng = models[kind], np.random.default_rng(1)
    drafter = DraftModel(model, models[""], 2, LENGTH)
    said = [ids(model), ids(model, "The dog ran to the")]
    for _ in range(12):
        wanted = [Wanted(seq, tokens, int(rng.integers(1, 7))) for seq, tokens in enumerate(said)]
        if rng.random() < 0.3:
            wanted.pop(int(rng.integers(2)))
        for each, tokens in zip(wanted, proposed(drafter, *wanted), strict=True):
            afresh = DraftModel(model, models[""], 1, LENGTH)
            assert (tokens,) == tuple(proposed(afresh, replace(each, seq=0)))
            right = int(rng.integers(len(tokens) + 1))
            each.tokens.extend([*tokens[:right], int(rng.integers(300, 1000))])
            if rng.random() < 0.2:
                each.tokens.extend(rng.integers(300, 1000, 5).tolist())


def test_long_prompts_are_caught_up_with_in_pieces(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "_AT_ONCE", 40)
    monkeypatch.setattr(draft, "_NEAR", 8)
    model = models[""]
    drafter = DraftModel(model, model, 3, LENGTH)
    short, long = ids(model)[:8], (ids(model) * 10)[:60]
    wanted = [Wanted(0, long, 3), Wanted(1, short, 3), Wanted(2, list(long), 3)]
    seen = [[bool(tokens) for tokens in proposed(drafter, *wanted)] for _ in range(8)]
    assert seen[0] == [False, True, False]
    assert seen.count([False, True, False]) > 2
    assert seen[-1] == [True, True, True]
    afresh = DraftModel(model, model, 1, LENGTH)
    proposed(afresh, Wanted(0, long, 3))
    assert proposed(afresh, Wanted(0, long, 3))[0] == proposed(drafter, *wanted)[0]


def counted(drafter: DraftModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each decode of the draft has, from now on."""
    decode, counts = drafter._context.decode, list[int]()

    def count(batch: Batch) -> Any:
        counts.append(len(batch))
        return decode(batch)

    monkeypatch.setattr(drafter._context, "decode", count)
    return counts


def test_what_it_has_is_not_computed_again(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models[""]
    drafter = DraftModel(model, model, 2, LENGTH)
    said = (ids(model) * 10)[:120]
    for _ in range(3):
        (tokens,) = proposed(drafter, Wanted(0, said, 3))
    counts = counted(drafter, monkeypatch)
    said += [*tokens, 5]
    proposed(drafter, Wanted(0, said, 1))
    assert sum(counts) <= 2  # the last one of the proposal, and what was chosen after it
    drafter.ended(0, said, 100)
    again = [*said[:100], 7, 8]
    for seq in (0, 1):  # as the sequence itself goes on, and as another one that begins like it
        counts.clear()
        proposed(drafter, Wanted(seq, list(again), 1))
        assert sum(counts) <= 3


def test_a_draft_ends_where_its_own_context_does(models: dict[str, Model]) -> None:
    model = models[""]
    drafter = DraftModel(model, model, 1, 20)
    assert len(proposed(drafter, Wanted(0, ids(model)[:8] * 2, 30))[0]) <= 4
    assert proposed(drafter, Wanted(0, ids(model)[:8] * 3, 30)) == [()]


def test_where_memory_is_short_the_longest_goes_on_without_it(models: dict[str, Model]) -> None:
    model = models[""]
    context = model.context(max_sequences=1, max_tokens=128)
    batch = Batch()
    batch.extend(list(range(300, 400)), 0)
    context.decode(batch)
    drafter = DraftModel(model, model, 3, LENGTH, kv_bytes=context.memory.used_bytes + 1)
    said = [ids(model), ids(model) * 8, ids(model, "The dog ran to the")]
    wanted = [Wanted(seq, tokens, 2) for seq, tokens in enumerate(said)]
    for _ in range(8):
        found = proposed(drafter, *wanted)
    assert not found[1]
    assert found[0] or found[2]
    drafter.ended(0, said[0], 30)
    drafter.ended(1, said[1], 30)
    assert proposed(drafter, wanted[2])[0]


def test_a_draft_that_fails_is_left(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models[""]
    drafter = DraftModel(model, model, 2, LENGTH)
    decode = drafter._context.decode

    def fail(batch: Batch) -> Any:
        raise NumericalError("not finite")

    monkeypatch.setattr(drafter._context, "decode", fail)
    said = ids(model)
    assert proposed(drafter, Wanted(0, said, 4)) == [()]
    monkeypatch.setattr(drafter._context, "decode", decode)
    assert proposed(drafter, Wanted(0, said, 4)) == [()]
    assert proposed(drafter, Wanted(1, list(said), 4))[0]


def test_what_was_forgotten_is_not_held(models: dict[str, Model]) -> None:
    model = models["-jamba"]
    drafter = DraftModel(model, model, 3, LENGTH)
    said = [[*ids(model), seq] for seq in range(3)]
    proposed(drafter, *(Wanted(seq, tokens, 4) for seq, tokens in enumerate(said)))
    drafter.ended(0, said[0], 5)
    drafter.ended(1, said[1], len(said[1]))
    held = [drafter._memory.length(seq) > 0 for seq in range(3)]
    assert held == [True, False, True]
    drafter.forget()
    assert [drafter._memory.length(seq) > 0 for seq in range(3)] == [False, False, True]


def test_a_closed_draft_holds_nothing(models: dict[str, Model]) -> None:
    drafter = DraftModel(models[""], models[""], 1, LENGTH)
    proposed(drafter, Wanted(0, ids(models[""]), 4))
    drafter.close()
    assert drafter._memory.used_bytes == 0


def stand_in(metadata: dict[str, Any] | None, name: str, more: int = 0) -> Any:
    tokenizer = None if metadata is None else made(metadata)
    n_vocab = (tokenizer.n_vocab if tokenizer else 512) + more
    return SimpleNamespace(name=name, tokenizer=tokenizer, n_vocab=n_vocab)


def test_a_vocabulary_may_be_padded_and_its_silent_tokens_renamed() -> None:
    target = bpe_metadata(("<|a|>", CONTROL), ("word", NORMAL), ("[PAD0]", UNUSED))
    small = bpe_metadata(("<|b|>", CONTROL), ("word", NORMAL))
    count = len(small["tokenizer.ggml.tokens"])
    one, other = stand_in(target, "target"), stand_in(small, "draft")
    assert common_tokens(other, one) == common_tokens(one, other) == count
    assert common_tokens(stand_in(None, "draft"), stand_in(None, "target", 3)) == 512


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (stand_in(bpe_metadata(("word", NORMAL)), "draft"), "token 267 is b'word', not b'ward'"),
        (stand_in(bpe_metadata(("<x>", CONTROL)), "draft"), "token 267 is b'<x>', not b'ward'"),
        (stand_in(spm_metadata(), "draft"), r"token 0 is b'<unk>', not b'\x00'"),
        (stand_in(None, "draft"), "draft has no vocabulary to compare"),
        (stand_in(bpe_metadata(), "draft", 5000), "5267 tokens, and 268 are needed"),
    ],
)
def test_another_vocabulary_is_refused_by_name(other: Any, said: str) -> None:
    target = stand_in(bpe_metadata(("ward", NORMAL)), "target")
    with pytest.raises(OptionError, match="draft can't draft for target") as error:
        common_tokens(other, target)
    assert said in str(error.value)


def test_tokens_that_only_one_has_are_neither_read_nor_proposed(models: dict[str, Model]) -> None:
    model = models[""]
    wide: Any = SimpleNamespace(
        name="wide", config=model.config, tokenizer=model.tokenizer, n_vocab=model.n_vocab + 5
    )
    drafter = DraftModel(model, wide, 1, LENGTH)
    said = ids(model)
    (tokens,) = proposed(drafter, Wanted(0, said, 4, sampler=Sampler(GREEDY, said)))
    assert tokens
    assert max(tokens) < model.n_vocab
    said.append(model.n_vocab + 2)
    assert proposed(drafter, Wanted(0, said, 4)) == [()]
    assert proposed(drafter, Wanted(0, said, 4)) == [()]


def test_encoder_decoders_do_without_a_draft(models: dict[str, Model]) -> None:
    t5 = Model.load(shipped_model().with_name("motet-tiny-t5.gguf"))
    for pair in ((t5, models[""]), (models[""], t5)):
        with pytest.raises(UnsupportedError, match="is an encoder-decoder"):
            DraftModel(*pair, 1, LENGTH)
