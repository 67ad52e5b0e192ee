"""How things show themselves, JSON, progress, and chats as APIs have them."""

import json
import math
import threading
from dataclasses import replace

import pytest

import motet
from motet.cli.demo import shipped_model
from motet.errors import OptionError, TokenizerError
from motet.sampling import TokenLogprob
from tests.llm.making import free_sequences, make
from tests.llm.test_generate import TEMPLATE
from tests.scripted import BOS, ByteTokenizer, ScriptedModel

HI = [{"role": "user", "content": "Hi"}]


def test_everything_says_what_it_is():
    model = motet.Model.load(shipped_model())
    assert repr(model) == (
        f"<motet.Model motet-tiny.gguf: gemma2, {model.parameters / 1e6:.1f} M parameters in"
        f" {model.nbytes / 1e6:.1f} MB, trained on 256 tokens>"
    )
    assert 0.1 < model.parameters / 1e6 < 10 and model.nbytes < model.file.nbytes * 1.1
    context = model.context(max_sequences=3, kv_type="f16", self_extend="auto")
    batch = motet.Batch()
    assert repr(batch) == "<motet.Batch: 0 entries of sequences [], 0 rows of logits wanted>"
    batch.extend([1, 2, 3], 0, (0, 2), logits="all")
    batch.extend([4, 5], 3, 2)
    assert repr(batch) == "<motet.Batch: 5 entries of sequences [0, 2], 4 rows of logits wanted>"
    context.decode(batch)
    held = f"2 of 3 sequences hold 5 of {context.max_tokens} tokens"
    assert repr(context.memory) == f"<motet.Memory: {held}>"
    assert repr(context) == (
        f"<motet.Context of motet-tiny.gguf: {held}; f16 keys and values, Self-Extend auto>"
    )
    with motet.LLM(model, max_sequences=2) as llm:
        assert repr(llm) == (
            "<motet.LLM of motet-tiny.gguf: 2 sequences of 256 tokens, 0 requests running,"
            " 0 waiting>"
        )
        answer = llm.generate("Once upon a time", max_tokens=40, seed=1)
        assert repr(answer).startswith("Completion('") and len(repr(answer)) < 200
        assert repr(answer).endswith("40 tokens, finish_reason='length', index=0, seed=1)")
        stream = llm.generate(["a", "b"], stream=True)
        assert repr(stream) == "<motet.Stream: 2 answers to come>"
        asynchronous = motet.AsyncLLM(llm)
        assert repr(asynchronous).startswith("<motet.AsyncLLM of motet-tiny.gguf: 2 sequences")
        pending = asynchronous.generate(["a", "b"], n=2, stream=True)
        assert repr(pending) == "<motet.AsyncStream: 4 answers to come>"
    assert "closed" in repr(llm)


def test_a_completion_as_json(llm):
    answer = llm.generate("abc", max_tokens=3, seed=1, logprobs=2, echo=True)
    plain = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert plain == answer.to_dict()
    assert plain["text"] == answer.text and plain["tokens"] == list(answer.tokens)
    counts = {"prompt_tokens": 4, "completion_tokens": 3, "cached_tokens": 0, "reasoning_tokens": 0}
    assert plain["usage"] == counts | {"proposed_tokens": 0, "accepted_tokens": 0}
    assert plain["timings"]["total"] == answer.timings.total
    assert plain["logprobs"][0]["logprob"] == answer.logprobs[0].logprob
    assert plain["logprobs"][0]["top"] == [list(each) for each in answer.logprobs[0].top]
    assert plain["prompt_logprobs"][0] is None and len(plain["prompt_logprobs"]) == 4
    banned = replace(answer, logprobs=(TokenLogprob(3, -math.inf, ()),))
    assert banned.to_dict()["logprobs"] == [{"token": 3, "logprob": None, "top": []}]
    chunks = [chunk.to_dict() for chunk in llm.generate("abc", max_tokens=2, stream=True)]
    json.dumps(chunks, allow_nan=False)
    assert chunks[0]["completion"] is None and chunks[-1]["completion"]["usage"]


def test_progress_is_on_standard_error_and_changes_nothing(llm, capsys):
    prompts = [f"prompt {i}" for i in range(20)]
    plain = [each.tokens for each in llm.generate(prompts, max_tokens=3, seed=1)]
    assert capsys.readouterr() == ("", "")
    shown = [each.tokens for each in llm.generate(prompts, max_tokens=3, seed=1, progress=True)]
    output = capsys.readouterr()
    assert shown == plain and output.out == ""
    assert "20/20 answers, 60 tokens" in output.err


@pytest.fixture
def chatty():
    with make(ScriptedModel(tokenizer=ByteTokenizer(TEMPLATE)), max_sequences=3) as llm:
        yield llm


def test_content_in_parts(chatty):
    parts = [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]
    in_parts = [{"role": "user", "content": parts}]
    assert chatty.chat_prompt(in_parts) == [BOS, *b"[user]Hi\nthere[assistant]?"]
    whole = chatty.chat([{"role": "user", "content": "Hi\nthere"}], seed=1, max_tokens=5)
    assert chatty.chat(in_parts, seed=1, max_tokens=5).tokens == whole.tokens
    assert in_parts[0]["content"] is parts  # the caller's, as it was
    refused = {
        r"\['content'\]\[1\] is of type 'image_url' \(models here read text alone": [
            parts[0],
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        ],
        r"\['content'\]\[0\] is of type None": [{"text": "Hi"}],
        r"\['content'\]\[0\]\['text'\] is 5": [{"type": "text", "text": 5}],
        r"\['content'\]\[0\] is 'Hi' \(use a dictionary as": ["Hi"],
    }
    for told, content in refused.items():
        with pytest.raises(OptionError, match=r"messages\[0\]" + told):
            chatty.chat([{"role": "user", "content": content}])
    with pytest.raises(TokenizerError, match="must be text"):
        chatty.chat([{"role": "user", "content": None}])


def test_several_chats_at_once(chatty):
    chats = [[{"role": "user", "content": text}] for text in ("Hi", "Ho", "Hum")]
    alone = [chatty.chat(chat, max_tokens=6, seed=2).tokens for chat in chats]
    assert [each.tokens for each in chatty.chat(chats, max_tokens=6, seed=2)] == alone
    assert [each.tokens for each in chatty.chat(tuple(chats[:1]), max_tokens=6, seed=2)] == [
        alone[0]
    ]
    answers = chatty.chat(chats, n=2, max_tokens=6, seed=2)
    assert [answers[i].tokens for i in (0, 2, 4)] == alone
    assert [answer.index for answer in answers] == list(range(6))
    ends = [chunk for chunk in chatty.chat(chats, stream=True, max_tokens=6) if chunk.completion]
    assert sorted(chunk.index for chunk in ends) == [0, 1, 2]
    with pytest.raises(OptionError, match=r"messages\[1\]\[0\]\['content'\]\[0\] is of type 'inp"):
        chatty.chat([HI, [{"role": "user", "content": [{"type": "input_audio"}]}]])
    assert free_sequences(chatty) == 3


def test_chats_on_recurrent_memory_have_checkpoints_of_their_own():
    model = ScriptedModel(tokenizer=ByteTokenizer(TEMPLATE), recurrent=True)
    with make(model, max_sequences=2) as llm:
        system = {"role": "system", "content": "Be brief."}
        chats = [[system, {"role": "user", "content": text}] for text in ("Hi", "Hum")]
        first = llm.chat(chats, max_tokens=2, seed=1)
        again = llm.chat(chats, max_tokens=2, seed=1)
        assert [each.tokens for each in again] == [each.tokens for each in first]
        assert all(each.usage.cached_tokens for each in again)
        other = llm.chat([system, {"role": "user", "content": "What?"}], max_tokens=2)
        assert other.usage.cached_tokens >= len("<[system]Be brief.[user]")


def test_closing_a_stream_ends_a_thread_that_waits_for_it(llm):
    llm.model.made.gate.clear()
    stream = llm.generate("abc", stream=True)
    read: list[list[motet.Chunk]] = []
    thread = threading.Thread(target=lambda: read.append(list(stream)))
    thread.start()
    assert llm.model.made.entered.wait(10)
    stream.close()
    thread.join(10)
    llm.model.made.gate.set()
    assert read == [[]]
    assert free_sequences(llm) == 4
