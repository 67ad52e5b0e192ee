"""Conversations: what the next answer depends on, and that all of it is in the file."""

import json

import pytest

from motet.cli.conversation import ChatOptions, Conversation, _decode
from motet.cli.demo import shipped_model
from motet.cli.output import print_stream
from motet.errors import MotetError
from motet.llm import LLM
from motet.model import Model
from motet.sampling import Sampling
from tests.scripted import ByteTokenizer, ScriptedModel
from tests.shared import SHARED, needs_shared

TEMPLATE = "{% for m in messages %}{{ m.content }}{{ '\\n' }}{% endfor %}"


@pytest.fixture(scope="module")
def model():
    return Model.load(shipped_model())


def chat_options(templated: bool = False, **fields) -> ChatOptions:
    return ChatOptions(templated, Sampling(**fields), max_tokens=12)


def say(conversation: Conversation, *texts: str) -> list[str]:
    answers = []
    for text in texts:
        answers.append(print_stream(conversation.answer(text)).text)
        conversation.add(text, answers[-1])
    return answers


def test_each_answer_has_its_own_seed():
    with LLM(ScriptedModel()) as llm:  # type: ignore[arg-type]
        conversation = Conversation(llm, chat_options(seed=7))
        first, second = (print_stream(conversation.answer("a")), say(conversation, "a"))
        assert first.seed == 7 and first.text == second[0]
        assert print_stream(conversation.answer("b")).seed == 8
        conversation.reset()
        assert print_stream(conversation.answer("a")).text == first.text
        drawn = Conversation(llm, chat_options())
        seeds = [print_stream(drawn.answer("a")).seed]
        drawn.reset()
        seeds.append(print_stream(drawn.answer("a")).seed)
        assert seeds[0] != seeds[1]


def test_the_template_and_the_system_message():
    model = ScriptedModel(tokenizer=ByteTokenizer(TEMPLATE))
    with LLM(model) as llm:  # type: ignore[arg-type]
        conversation = Conversation(llm, chat_options(templated=True, seed=1), "Be brief.")
        [answer] = say(conversation, "Hi")
        prompt = llm.chat_prompt(conversation.messages[:2])
        assert llm.tokenizer is not None
        assert llm.tokenizer.decode(prompt) == "<s>Be brief.\nHi\n"
        assert answer == llm.generate(prompt, seed=1, max_tokens=12).text
        conversation.reset()
        assert [message["role"] for message in conversation.messages] == ["system"]


@pytest.mark.parametrize("templated", [False, True])
@pytest.mark.parametrize("seed", [5, None])
def test_it_goes_on_as_if_nothing_had_been(model, tmp_path, templated, seed, monkeypatch):
    monkeypatch.setattr("motet.tokenizer.chat.select", lambda tokenizer: TEMPLATE)
    file = tmp_path / "talk.motet"
    options = chat_options(templated, seed=seed, temperature=1.2, repeat_penalty=1.1)
    turns = "One day, a dog", " The dog went", " And then he"
    with LLM(model, max_sequences=1) as llm:
        conversation = Conversation(llm, options, "Once." if templated else None)
        say(conversation, turns[0])
        conversation.save(file)
        expected = say(conversation, *turns[1:])
    with LLM(Model.load(shipped_model()), max_sequences=2) as llm:
        loaded = Conversation(llm, chat_options())
        say(loaded, "Something else")
        loaded.load(file)
        assert loaded.options == options
        completion = print_stream(loaded.answer(turns[1]))
        assert completion.usage.cached_tokens > 5
        assert say(loaded, *turns[1:]) == expected
        assert loaded.messages == conversation.messages
        loaded.reset()
        assert loaded.messages == conversation.opening


def test_what_is_no_conversation_is_refused_and_changes_nothing(model, tmp_path):
    plain, text, cut = (tmp_path / name for name in ("plain", "text", "cut"))
    with LLM(model, max_sequences=1) as llm:
        llm.generate("Once", max_tokens=2)
        llm.save(plain)
        text.write_text("not a state file")
        conversation = Conversation(llm, chat_options(seed=1))
        say(conversation, "Once upon a time")
        conversation.save(cut)
        cut.write_bytes(cut.read_bytes()[:-100])
        messages = list(conversation.messages)
        for file, reason in ((plain, "without a conversation"), (text, "text"), (cut, "cut")):
            with pytest.raises(MotetError, match=reason) as caught:
                conversation.load(file)
            assert str(file) in str(caught.value)
            assert conversation.messages == messages
        with pytest.raises(MotetError, match="nowhere"):
            conversation.load(tmp_path / "nowhere")
        with pytest.raises(MotetError, match="text"):
            conversation.save(text)
        assert text.read_text() == "not a state file"


@needs_shared
def test_the_file_of_another_model_is_refused(model, tmp_path):
    file = tmp_path / "talk.motet"
    with LLM(SHARED / "stories260K" / "stories260K-F32.gguf", max_sequences=1) as llm:
        other = Conversation(llm, chat_options(seed=1))
        say(other, "Once")
        other.save(file)
    with LLM(model, max_sequences=1) as llm:
        conversation = Conversation(llm, chat_options(seed=2))
        say(conversation, "One day")
        messages = list(conversation.messages)
        with pytest.raises(MotetError):
            conversation.load(file)
        assert conversation.messages == messages


SOUND = {
    "version": 1,
    "templated": False,
    "sampling": {"top_k": 3},
    "max_tokens": None,
    "stop": ["x"],
    "asked_seed": None,
    "seed": 3,
    "opening": [],
    "messages": [{"role": "user", "content": "a"}],
}


def test_notes_are_decode():
    saved = _decode({"motet.conversation": json.dumps(SOUND)}, "file")
    assert saved.messages == SOUND["messages"]
    assert saved.options == ChatOptions(False, Sampling(top_k=3), None, ("x",))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"templated": 1},
        {"sampling": {"top_k": -1}},
        {"sampling": {"unknown": 1}},
        {"sampling": []},
        {"max_tokens": "many"},
        {"stop": "x"},
        {"asked_seed": "a"},
        {"seed": -1},
        {"seed": None},
        {"opening": None},
        {"messages": [{"role": "user"}]},
        {"messages": ["a"]},
    ],
)
def test_malformed_notes_are_refused(change):
    with pytest.raises(MotetError, match="the conversation in file is malformed"):
        _decode({"motet.conversation": json.dumps(SOUND | change)}, "file")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "3", "{}"])
def test_notes_that_are_no_conversation_are_refused(text):
    with pytest.raises(MotetError, match="the conversation in file is malformed"):
        _decode({"motet.conversation": text}, "file")
