"""Vectors of texts: the same whatever is beside them, however long, whoever asks."""

import asyncio
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import motet
from motet.cli.demo import shipped_model
from motet.embedding import normalized
from motet.engine import Embedder, Slice, VectorRequest
from motet.engine.contexts import ContextFactory
from motet.engine.load import Totals
from motet.engine.pace import LEAST
from motet.errors import (
    BusyError,
    CapacityError,
    MotetError,
    NumericalError,
    OptionError,
    TimedOut,
    UnsupportedError,
)
from motet.model import Model
from tests.interrupting import interrupted_at
from tests.models import readers, tiny
from tests.shared import SHARED, needs_shared

PARITY = SHARED / "parity"
GOLDENS = ["bert_cls", "bert_mean", "nomicbert", "modernbert", "xlmroberta", "gemma_embedding"]
GOLDENS += ["qwen3_embedding"]
TEXTS = ["hello the hello", "", "abc.", "the un able 中 é", "hello " * 9, "zzz"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def bert(folder: Path) -> Iterator[motet.LLM]:
    with motet.LLM(readers.bert(folder), ubatch=16) as llm:
        yield llm


@pytest.fixture(scope="module")
def model_of(folder: Path):
    return cache(lambda name: tiny.load(folder, name))


def random_ids(count: int, longest: int) -> list[list[int]]:
    rng = np.random.default_rng(count)
    return [rng.integers(0, 40, rng.integers(1, longest + 1)).tolist() for _ in range(count)]


@needs_shared
@pytest.mark.parametrize("name", GOLDENS)
def test_pooled_as_the_files_say(name: str):
    folder = PARITY / name
    expected = np.load(folder / "pooled_hf.npy").reshape(1, -1)
    with motet.LLM(folder / "model.gguf", ubatch=32) as llm:
        ids = np.load(folder / "tokens.npy")
        np.testing.assert_allclose(llm.embed(ids, normalize=False), expected, rtol=0, atol=5e-6)
        unit = expected / np.linalg.norm(expected)
        np.testing.assert_allclose(llm.embed([ids]), unit, rtol=0, atol=2e-6)


def test_shapes_and_lengths(bert: motet.LLM):
    one = bert.embed(TEXTS[0])
    assert one.shape == (1, 16) and one.dtype == np.float32
    every = bert.embed(TEXTS)
    assert every.shape == (6, 16)
    np.testing.assert_allclose(np.linalg.norm(every, axis=1), 1, rtol=1e-6)
    assert bert.embed([]).shape == (0, 16)
    assert not np.allclose(np.linalg.norm(bert.embed(TEXTS, normalize=False), axis=1), 1)
    assert bert.tokenizer is not None
    ids = [bert.tokenizer.encode(text) for text in TEXTS]
    assert np.array_equal(bert.embed(ids), every)
    assert np.array_equal(bert.embed([ids[0], TEXTS[1]]), every[:2])


def test_numpy_arrays(bert: motet.LLM):
    for kind in (str, object):
        assert np.array_equal(bert.embed(np.array(TEXTS, kind)), bert.embed(TEXTS))
    ids = np.arange(12).reshape(3, 4)
    assert np.array_equal(bert.embed(ids), bert.embed(ids.tolist()))


def test_what_is_meant_of_an_encoder_decoder():
    with motet.LLM(shipped_model().with_name("motet-tiny-t5.gguf")) as llm:
        with pytest.raises(OptionError, match=r"give pooling='mean'; the card"):
            llm.embed("hello")
        assert llm.embed("hello", "mean").shape == (1, llm.model.config.d_model)


def test_poolings_are_those_of_a_context(bert: motet.LLM):
    assert bert.tokenizer is not None
    batch = motet.Batch()
    batch.extend(bert.tokenizer.encode(TEXTS[0]), 0, logits="all")
    hidden = bert.model.context(pooling="none").encode(batch).hidden
    assert hidden is not None
    for pooling, row in {"cls": hidden[0], "last": hidden[-1], "mean": hidden.mean(0)}.items():
        got = bert.embed(TEXTS[0], pooling, normalize=False)[0]
        np.testing.assert_allclose(got, row, atol=1e-6)
    assert np.array_equal(bert.embed(TEXTS[0]), bert.embed(TEXTS[0], "cls"))


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("bert", "mean"),
        ("modern-bert", "last"),
        ("llama", "mean"),
        ("gemma2", "last"),
        ("mamba", "mean"),
        ("jamba", "last"),
    ],
)
def test_a_row_is_the_same_whatever_is_beside_it(model_of: Any, name: str, pooling: str):
    """Alone, in lists of any order, in slices of any size, of several threads at once, and while
    answers are generated."""
    model, texts = model_of(name), random_ids(15, 70)
    with motet.LLM(model, ubatch=256) as llm:
        expected = np.concatenate([llm.embed(text, pooling) for text in texts])
    for ubatch in (1, 7, 64):
        with motet.LLM(model, ubatch=ubatch, max_sequences=2) as llm:
            found: dict[int, Any] = {}

            def ask(number: int, llm: motet.LLM = llm, found: dict[int, Any] = found) -> None:
                found[number] = llm.embed(texts[number::3][::-1], pooling)[::-1]

            threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
            for thread in threads:
                thread.start()
            if name in tiny.DECODERS:
                said = llm.generate([[1, 2, 3]] * 3, max_tokens=8, seed=1)
            for thread in threads:
                thread.join()
            for number in range(3):
                assert np.array_equal(found[number], expected[number::3])
            if name in tiny.DECODERS:
                again = llm.generate([[1, 2, 3]] * 3, max_tokens=8, seed=1)
                assert [one.tokens for one in again] == [one.tokens for one in said]


class Asked:
    """Requests by hand, without a thread."""

    def __init__(self, model: Model, ubatch: int, **options: Any) -> None:
        given = {"kv_bytes": None, "checkpoint_bytes": None} | options
        factory = ContextFactory(model, 1, None, ubatch, "auto", "auto", **given)
        self.contexts: list[motet.Context] = []

        def make(pooling: str) -> motet.Context:
            self.contexts.append(factory.pooled(pooling))
            return self.contexts[-1]

        self.embedder = Embedder(make)

    def ask(self, texts: list[list[int]], pooling: str = "mean") -> tuple[VectorRequest, list[Any]]:
        got: list[Slice | MotetError] = []
        request = VectorRequest(pooling, texts, got.append)
        self.embedder.add(request)
        return request, got

    def held(self) -> int:
        """Tokens in memory."""
        return sum(c.memory.length(seq) for c in self.contexts for seq in range(c.max_sequences))


def test_long_texts_and_short_ones_go_on_side_by_side(model_of: Any):
    asked = Asked(model_of("llama"), ubatch=16)
    _, long = asked.ask([[1] * 100, [2] * 100])
    _, other = asked.ask([[3] * 90])
    asked.embedder.step(Totals())
    _, short = asked.ask([[n, n] for n in range(1, 13)])
    steps = 0
    while asked.embedder.busy:
        asked.embedder.step(Totals())
        steps += 1
        assert asked.held() <= 100
        computed = sum(each.tokens for got in (long, other, short) for each in got)
        assert computed >= min((steps + 1) * 16 - 12, 100 + 100 + 90 + 24)
    assert [sum(len(each.places) for each in got) for got in (long, other, short)] == [2, 1, 12]
    assert sum(len(each.places) for each in short[:4]) == 12, "they do not wait for long texts"
    assert asked.held() == 0


def test_slices_are_short_while_answers_are_written(model_of: Any):
    """And the vectors are the same."""
    texts = [[1 + n] * (10 + 30 * n) for n in range(4)]
    whole, cut = (Asked(model_of("llama"), ubatch=512) for _ in range(2))
    _, expected = whole.ask(texts)
    whole.embedder.step(Totals())
    _, got = cut.ask(texts)
    cut.embedder.step(Totals(), 1)
    assert cut.held() <= LEAST  # before it is known how long tokens take
    steps = 1
    while cut.embedder.busy:
        cut.embedder.step(Totals(), 1)
        steps += 1
    assert steps > len(expected) == 1
    rows = {place: v for each in got for place, v in zip(each.places, each.vectors, strict=True)}
    for place, vector in zip(expected[0].places, expected[0].vectors, strict=True):
        assert np.array_equal(rows[place], vector)


def test_time_outs_and_turns_of_calls(model_of: Any):
    with motet.LLM(model_of("llama"), max_waiting=0) as llm:
        with pytest.raises(TimedOut, match="not done in time"):
            llm.embed([[1] * 50], "mean", timeout=0)
        assert llm.embed([[1] * 50], "mean", timeout=60).shape[0] == 1
        request = VectorRequest("mean", [[1] * 200] * 200, lambda _: None)
        llm._engine.embed(request)
        with pytest.raises(BusyError, match="1 calls for vectors are not done"):
            llm.embed([[1]], "mean")
        request.cancelled = True
        assert llm.load().total.vector_tokens >= 50


def test_an_encoder_takes_long_texts_whole(model_of: Any):
    asked = Asked(model_of("bert"), ubatch=16)
    _, got = asked.ask([[1] * 5, [1] * 200, [1] * 5, [1] * 9])
    asked.embedder.step(Totals())
    assert [each.tokens for each in got] == [200]
    asked.embedder.step(Totals())
    assert [each.tokens for each in got] == [200, 14]
    asked.embedder.step(Totals())
    assert [each.tokens for each in got] == [200, 14, 5] and not asked.embedder.busy
    assert sorted(place for each in got for place in each.places) == [0, 1, 2, 3]


def test_what_is_cancelled_leaves_nothing(model_of: Any):
    asked = Asked(model_of("jamba"), ubatch=8)
    request, got = asked.ask([[1] * 100, [2, 3]])
    other, others = asked.ask([[4, 5]])
    asked.embedder.step(Totals())
    assert asked.held() > 0
    request.cancelled = True
    asked.embedder.step(Totals())
    assert asked.held() == 0 and not any(each.places for each in got)
    assert not asked.embedder.busy and [list(each.places) for each in others] == [[0]]
    assert not other.cancelled


def test_a_call_whose_numbers_are_not_finite_fails_alone(folder: Path):
    path = folder / "hot.gguf"
    model = Model.load(tiny.write(path, tiny.metadata("llama")))
    asked = Asked(model, ubatch=64)
    family: Any = model.family
    real, wrong = family.forward, 7

    def forward(tokens: Any, view: Any, wanted: Any) -> Any:
        hidden = real(tokens, view, wanted)
        hidden[tokens[wanted] == wrong] = np.nan
        return hidden

    family.forward = forward
    _, bad = asked.ask([[1, 2, 3], [4, wrong, 5]])
    _, good = asked.ask([[1, 2], [3, 4, 5, 6]])
    while asked.embedder.busy:
        asked.embedder.step(Totals())
    assert isinstance(bad[-1], NumericalError)
    assert sorted(place for each in good for place in each.places) == [0, 1]


def test_memory_too_small_for_a_text(model_of: Any):
    model = model_of("llama")
    with motet.LLM(model, ubatch=16, kv_bytes=50_000) as llm:
        expected = llm.embed([[1, 2, 3]], "mean")
        with pytest.raises(CapacityError):
            llm.embed([[1] * 250, [1, 2, 3]], "mean")
        assert np.array_equal(llm.embed([[1, 2, 3]], "mean"), expected)


def test_interrupted_anywhere(model_of: Any):
    texts = [[1] * 60, [2, 3]]
    with motet.LLM(model_of("jamba"), ubatch=16, max_sequences=1) as llm:
        expected, event, interrupts = llm.embed(texts, "mean"), 1, 0
        while interrupted_at(event, lambda: llm.embed(texts, "mean")):
            interrupts += 1
            event += 1 + event // 10
            assert np.array_equal(llm.embed(texts, "mean"), expected)
        assert interrupts > 10
        deadline = time.monotonic() + 10
        while llm._engine._embedder.busy and time.monotonic() < deadline:
            time.sleep(0.005)
        assert not llm._engine._embedder.busy


def test_from_coroutines(bert: motet.LLM, model_of: Any):
    front, expected = motet.AsyncLLM(bert), bert.embed(TEXTS)

    async def several() -> None:
        every = await asyncio.gather(*(front.embed(TEXTS[n:]) for n in range(len(TEXTS))))
        for number, found in enumerate(every):
            assert np.array_equal(found, expected[number:])
        assert (await front.embed([])).shape == (0, 16)
        with pytest.raises(CapacityError, match=r"text 0.*: 42 tokens"):
            await front.embed("hello " * 40)

    asyncio.run(several())

    async def cancelled() -> None:
        with motet.LLM(model_of("llama"), ubatch=1) as llm:
            task = asyncio.create_task(motet.AsyncLLM(llm).embed([[1] * 250] * 50, "mean"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert np.array_equal(llm.embed([[1]], "mean"), llm.embed([[1]], "mean"))
            assert not llm._engine._embedder.busy

    asyncio.run(cancelled())


def test_closing_ends_the_wait(model_of: Any):
    llm = motet.LLM(model_of("llama"), ubatch=1)
    ended: list[MotetError] = []

    def ask() -> None:
        try:
            llm.embed([[1] * 250] * 100, "mean")
        except MotetError as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not llm._engine._embedder.busy:
        time.sleep(0.001)
    llm.close()
    thread.join(10)
    assert [str(error) for error in ended] == ["the LLM was closed"]
    with pytest.raises(MotetError, match="closed"):
        llm.embed([[1]], "mean")


def test_texts_that_are_cut_keep_their_end(bert: motet.LLM):
    assert bert.tokenizer is not None
    ids = bert.tokenizer.encode("hello " * 40)
    cut = [*ids[:31], bert.tokenizer.sep]
    assert np.array_equal(bert.embed("hello " * 40, truncate=True), bert.embed([cut]))
    assert np.array_equal(bert.embed([ids], truncate=True), bert.embed([cut]))
    assert np.array_equal(bert.embed([ids[:-1]], truncate=True), bert.embed([ids[:32]]))
    assert np.array_equal(bert.embed(TEXTS, truncate=True), bert.embed(TEXTS))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda llm: llm.embed("hello " * 40),
            CapacityError,
            "'hello hello.*: 42 tokens.*trained for 32",
        ),
        (lambda llm: llm.embed(["a", [1] * 33]), CapacityError, "text 1: 33 tokens"),
        (lambda llm: llm.embed([[1, 99999]]), OptionError, "token 99999 at 1 of text 0"),
        (lambda llm: llm.embed("a", "rank"), OptionError, "pooling is 'rank'.*mean, cls, last"),
        (lambda llm: llm.embed("a", "none"), OptionError, "pooling is 'none'"),
        (lambda llm: llm.embed("a", normalise=True), OptionError, "did you mean normalize"),
        (lambda llm: llm.embed(5), OptionError, "text is 5.*list of texts"),
        (lambda llm: llm.embed(iter("ab")), OptionError, r"list of texts.*list\(…\) makes one"),
        (lambda llm: llm.embed(["a", []]), OptionError, "text 1 is empty"),
        (lambda llm: llm.embed(np.ones((2, 2))), OptionError, "text is array"),
        (lambda llm: llm.embed(["a", None]), OptionError, "text is a list with None at 1"),
        (lambda llm: llm.embed("a", progress=1), OptionError, "progress is 1"),
        (lambda llm: llm.generate("a"), UnsupportedError, r"is an encoder.*use embed"),
        (lambda llm: llm.chat([{"role": "user"}]), UnsupportedError, "is an encoder"),
        (lambda llm: setattr(llm, "self_extend", "auto"), UnsupportedError, "is an encoder"),
    ],
)
def test_wrong_use(bert: motet.LLM, call: Any, kind: type[MotetError], message: str):
    with pytest.raises(kind, match=message):
        call(bert)


def test_wrong_use_of_decoders(folder: Path):
    with motet.LLM(readers.decoder(folder)) as llm:
        with pytest.raises(
            OptionError, match=r"does not say how.*pooling='last' or pooling='mean'"
        ):
            llm.embed("hello")
        with pytest.raises(OptionError, match="'cls', and the first token of this model sees no"):
            llm.embed("hello", "cls")
        with pytest.raises(OptionError, match="text 1, '': it is empty"):
            llm.embed(["hello", ""], "last")
        assert llm.embed("hello", "last").shape == (1, 16)
        with pytest.raises(CapacityError, match=r"text 0, .*: 400 tokens.*256"):
            llm.embed("x" * 400, "mean")
        short = llm.embed("x" * 256, "mean")
        assert np.array_equal(llm.embed("x" * 400, "mean", truncate=True), short)


def test_what_has_no_end_has_vectors_of_any_length(model_of: Any):
    with motet.LLM(model_of("mamba")) as llm:
        assert np.isfinite(llm.embed([[1, 2, 3] * 200], "mean")).all()


def test_without_a_vocabulary_ids_do(model_of: Any):
    with motet.LLM(model_of("nomic-bert")) as llm:
        with pytest.raises(UnsupportedError, match=r"no vocabulary.*give token ids"):
            llm.embed("hello")
        assert llm.embed(np.array([1, 2])).shape == (1, 16)


def test_lengths_of_rows():
    rows = np.array([[0, 0], [3, 4], [3e30, 4e30], [3e-30, 4e-30]], np.float32)
    expected = np.array([[0, 0], *[[0.6, 0.8]] * 3], np.float32)
    assert normalized(rows).dtype == np.float32
    np.testing.assert_allclose(normalized(rows), expected, rtol=1e-7)


def test_progress(bert: motet.LLM, capfd: pytest.CaptureFixture[str]):
    told: list[tuple[int, int]] = []
    bert.embed(TEXTS * 5, progress=lambda done, total: told.append((done, total)))
    assert bert.tokenizer is not None
    total = 5 * sum(len(bert.tokenizer.encode(text)) for text in TEXTS)
    assert {each for _, each in told} == {total}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (total, total) and len(told) > 5
    bert.embed(TEXTS)
    assert capfd.readouterr().err == ""
    bert.embed(TEXTS, progress=True)
    shown = capfd.readouterr()
    assert f"{total // 5}/{total // 5}" in shown.err and not shown.out
