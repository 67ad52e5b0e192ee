"""LLM on an encoder-decoder: prompts are encoded together, once each; answers begin anew."""

import threading
from pathlib import Path

import pytest

from motet import Batch, Context, Model
from motet.errors import CapacityError, OptionError, TokenizerError, UnsupportedError
from motet.evals.hellaswag import hellaswag
from motet.evals.perplexity import perplexity
from motet.evals.speed import measure
from motet.evals.tasks import Task
from motet.llm import LLM
from tests.llm.making import finished, free_sequences
from tests.models.tiny import load
from tests.shared import SHARED, needs_shared

PROMPTS = [[3, 4, 5], [9], list(range(1, 40)), [7, 7], [8] * 100]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(tmp_path_factory.mktemp("t5"), "t5", threads=2, decoder_start_token_id=5)


def greedy(model: Model, prompt: list[int], count: int) -> tuple[int, ...]:
    """The answer, computed step by step."""
    context, out = model.context(), []
    token = model.config.decoder_start
    assert token is not None
    batch = Batch()
    batch.extend(prompt, 0)
    context.encode(batch)
    for position in range(count):
        batch = Batch()
        batch.add(token, position, logits=True)
        token = int(context.decode(batch).logits[0].argmax())
        out.append(token)
    return tuple(out)


class Encoded:
    """Counts what contexts encode."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[int] = []
        encode = Context.encode

        def counted(context: Context, batch: Batch):
            self.calls.append(len(batch))
            return encode(context, batch)

        monkeypatch.setattr(Context, "encode", counted)


def test_answers(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [greedy(model, prompt, 12) for prompt in PROMPTS]
    encoded = Encoded(monkeypatch)
    with LLM(model, max_sequences=3) as llm:
        together = llm.generate(PROMPTS, temperature=0, max_tokens=12)
        assert [c.tokens for c in together] == expected
        assert sum(encoded.calls) == sum(map(len, PROMPTS)) and len(encoded.calls) < len(PROMPTS)
        for prompt, completion in zip(PROMPTS, together, strict=True):
            assert completion.usage.prompt_tokens == len(prompt)
            assert completion.usage.cached_tokens == 0
            assert completion.finish_reason == "length"
        streamed = llm.generate(PROMPTS[0], temperature=0, max_tokens=12, stream=True)
        assert finished(streamed).tokens == expected[0]
        assert free_sequences(llm) == 3 and llm.held() == []


def test_several_answers_are_forks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with LLM(model, max_sequences=4) as llm:
        alone = [llm.generate(PROMPTS[2], seed=s, max_tokens=9).tokens for s in (5, 6, 7)]
        encoded = Encoded(monkeypatch)
        answers = llm.generate(PROMPTS[2], n=3, seed=5, max_tokens=9, logprobs=2)
        assert [c.tokens for c in answers] == alone
        assert encoded.calls == [len(PROMPTS[2])]
        assert all(c.logprobs is not None and len(c.logprobs) == 9 for c in answers)
        assert all(c.prompt_logprobs is None for c in answers)


def test_concurrent_callers(model: Model) -> None:
    expected = [greedy(model, prompt, 20) for prompt in PROMPTS]
    got: dict[int, tuple[int, ...]] = {}
    with LLM(model, max_sequences=4, ubatch=16) as llm:

        def ask(i: int) -> None:
            got[i] = llm.generate(PROMPTS[i % 5], temperature=0, max_tokens=20).tokens

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(15)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(got[i] == expected[i % 5] for i in range(15))


def test_short_of_memory_requests_wait(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose sequences are taken are encoded again, and their answers stay the same."""
    expected = [greedy(model, prompt, 90) for prompt in PROMPTS]
    encoded, page = Encoded(monkeypatch), model.kernels.page_bytes(4, 8, 8, "f32")
    with LLM(model, max_sequences=5, kv_bytes=3 * 12 * page, kv_type="f32") as llm:
        answers = llm.generate(PROMPTS, temperature=0, max_tokens=90)
        assert [c.tokens for c in answers] == expected
    assert sum(encoded.calls) > sum(map(len, PROMPTS))


@needs_shared
def test_text(tmp_path: Path) -> None:
    """The tokenizer closes what is encoded, and an answer ends with the same token."""
    loaded = Model.load(SHARED / "parity" / "t5_gated" / "model.gguf", threads=2)
    with LLM(loaded) as llm:
        answers = llm.generate(["the cat sat"] * 8, seed=1, max_tokens=60)
        ids = loaded.tokenizer.encode("the cat sat", add_special=True)
        assert ids[-1] == 1 and answers[0].tokens == llm.generate(ids, seed=1, max_tokens=60).tokens
        ended = [c for c in llm.generate("the cat sat", n=8, seed=1) if c.finish_reason == "stop"]
        assert ended
        for completion in ended:
            assert completion.tokens[-1] == 1 and "</s>" not in completion.text


def test_what_is_refused(model: Model) -> None:
    with LLM(model) as llm:
        with pytest.raises(OptionError, match="encoder-decoder: its answers do not go on from"):
            llm.generate([3], echo=True)
        with pytest.raises(
            CapacityError, match="has 257 tokens, and the model was trained for 256"
        ):
            llm.generate([3] * 257)
        assert len(llm.generate([3] * 256, max_tokens=2).tokens) == 2
        with pytest.raises((TokenizerError, UnsupportedError)):
            llm.chat([{"role": "user", "content": "hello"}])
        assert len(llm.generate([3], seed=1).tokens) == 255  # as many as the decoder has room for
    with pytest.raises(UnsupportedError, match="learned bias for distances"):
        LLM(model, self_extend="auto")


def test_nothing_is_kept_and_nothing_restored(model: Model, tmp_path: Path) -> None:
    context, batch = model.context(), Batch()
    batch.extend([3, 4], 0)
    context.encode(batch)
    context.save(tmp_path / "state", notes={"a": "b"})
    with LLM(model) as llm:
        assert llm.restore(tmp_path / "state") == {"a": "b"}
        assert llm.held() == []


@pytest.mark.parametrize("architecture", ["t5", "bert"])
def test_no_measures_of_how_a_text_goes_on(tmp_path: Path, architecture: str) -> None:
    loaded = load(tmp_path, architecture)
    kind = "an encoder-decoder" if architecture == "t5" else "an encoder"
    with pytest.raises(UnsupportedError, match=rf"{kind}: it .* perplexity is made"):
        perplexity(loaded, [1] * 64, ctx=32)
    with pytest.raises(UnsupportedError, match=rf"{kind}: it .* HellaSwag is made"):
        hellaswag(loaded, [Task(1, "a", 0, ("b", "c", "d", "e"))])


def test_speed(model: Model, tmp_path: Path) -> None:
    speeds = list(measure(model, prompts=[40], generate=5, parallel=[1, 2], repeat=1))
    assert [(s.test, s.sequences, s.tokens) for s in speeds] == [
        ("encode", 1, 40),
        ("decode", 1, 5),
        ("decode", 2, 10),
    ]
    d, ff, inner, vocab = 16, 24, 32, 40
    norms, bias = 3 * 3 * d + d, 8 * 4
    layer = 4 * inner * d + 2 * inner * d + 2 * ff * d
    read = 4 * (3 * layer + vocab * d + norms + bias)
    assert read <= model.bytes_per_token < 1.05 * read  # whole strips of rows
    encoder = load(tmp_path, "bert")
    assert [s.test for s in measure(encoder, prompts=[40], generate=5, parallel=[1], repeat=1)] == [
        "encode"
    ]
