"""Saving what idle sequences remember, and going on from it elsewhere, on every kind of memory."""

import io
import threading

import pytest

from motet.errors import CapacityError, MotetError, StateFileError
from motet.llm import LLM
from tests.llm.making import finished, free_sequences
from tests.models import tiny

PROMPTS = [[1, 2, 3, 4, 5] * 9, [1, 2, 3, 4, 5] * 4 + [7] * 30, [9, 8, 7] * 8]


@pytest.fixture(scope="module", params=["llama", "gemma3", "gpt-oss", "mamba", "jamba"])
def model(request, tmp_path_factory):
    return tiny.load(tmp_path_factory.mktemp("models"), request.param)


def ask(llm: LLM, prompt):
    return llm.generate(prompt, max_tokens=8, seed=1, logprobs=2)


def test_prompts_go_on_from_what_was_saved(model, tmp_path):
    file = tmp_path / "state"
    with LLM(model, max_sequences=4) as llm:
        first = [ask(llm, prompt) for prompt in PROMPTS]
        longer = [[*p, *answer.tokens, 3] for p, answer in zip(PROMPTS, first, strict=True)]
        llm.save(file, {"a note": "é"})
        expected = [ask(llm, prompt) for prompt in longer]
    with LLM(model, max_sequences=3, ubatch=32, prefix_reuse=True) as llm:
        ask(llm, [5] * 20)
        assert llm.restore(file) == {"a note": "é"}
        assert sorted(llm.held()) == sorted(len(p) + 7 for p in PROMPTS)
        for prompt, answer in zip(longer, expected, strict=True):
            again = ask(llm, prompt)
            assert again.usage.cached_tokens == len(prompt) - 2
            assert (again.tokens, again.logprobs) == (answer.tokens, answer.logprobs)
        assert free_sequences(llm) == 3


def test_a_file_object_and_nothing_to_save(model):
    file = io.BytesIO(b"before")
    file.seek(6)
    with LLM(model, max_sequences=2) as llm:
        assert llm.held() == []
        llm.save(file)
        end = file.tell()
        ask(llm, PROMPTS[0])
        llm.save(file, {"n": "2"})
        file.seek(6)
        assert llm.restore(file) == {}
        assert file.tell() == end
        assert llm.restore(file) == {"n": "2"}
        assert len(llm.held()) == 2


def test_forgetting(model):
    with LLM(model, max_sequences=2) as llm:
        ask(llm, PROMPTS[0])
        llm.forget()
        assert llm.held() == []
        assert ask(llm, PROMPTS[0]).usage.cached_tokens == 0


def test_what_does_not_fit_is_refused(model, tmp_path):
    file = tmp_path / "state"
    with LLM(model, max_sequences=3) as llm:
        for prompt in PROMPTS:
            ask(llm, prompt)
        llm.save(file)
    with LLM(model, max_sequences=2) as llm:
        ask(llm, PROMPTS[2])
        with pytest.raises(CapacityError, match="3 conversations were saved, and 2"):
            llm.restore(file)
        assert ask(llm, PROMPTS[2]).usage.cached_tokens == len(PROMPTS[2]) - 1
    with (
        LLM(model, max_sequences=3, max_tokens=55) as llm,
        pytest.raises(CapacityError, match="has 57 tokens and the context holds 55"),
    ):
        llm.restore(file)


def test_a_damaged_file_leaves_the_engine_at_work(model, tmp_path):
    file = tmp_path / "state"
    with LLM(model, max_sequences=2) as llm:
        expected = ask(llm, PROMPTS[0])
        llm.save(file)
        held = llm.held()
        data = bytearray(file.read_bytes())
        data[-200] ^= 1
        file.write_bytes(data)
        with pytest.raises(StateFileError, match=str(file)):
            llm.restore(file)
        with pytest.raises(StateFileError, match="nowhere"):
            llm.restore(tmp_path / "nowhere")
        with pytest.raises(StateFileError):
            llm.save(tmp_path)
        assert llm.held() == held
        again = ask(llm, PROMPTS[0])
        assert again.tokens == expected.tokens
        assert again.usage.cached_tokens == len(PROMPTS[0]) - 1
        assert free_sequences(llm) == 2


def test_answers_under_way_are_not_disturbed(model, tmp_path):
    file = tmp_path / "state"
    with LLM(model, max_sequences=2) as llm:
        expected = llm.generate(PROMPTS[1], max_tokens=60, seed=1)
        ask(llm, PROMPTS[0])
        llm.save(file)
        threads = [threading.Thread(target=llm.save, args=(tmp_path / f"{i}",)) for i in range(4)]
        with llm.generate(PROMPTS[1], max_tokens=60, seed=1, stream=True) as stream:
            next(stream)
            for thread in threads:
                thread.start()
            answer = finished(stream)
        for thread in threads:
            thread.join(20)
        assert answer.tokens == expected.tokens
        llm.restore(tmp_path / "3")


def test_a_closed_engine_saves_nothing(model, tmp_path):
    llm = LLM(model)
    llm.close()
    with pytest.raises(MotetError, match="closed"):
        llm.save(tmp_path / "state")
    with pytest.raises(MotetError, match="closed"):
        llm.restore(tmp_path / "state")
