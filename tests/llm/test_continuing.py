"""Chats whose last message is what the assistant began to say."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from motet.chat_formats import chat_format
from motet.engine.chatting import ChatSetting, ChatWriter
from motet.errors import MotetError, OptionError, TokenizerError
from motet.llm import LLM
from tests.chat_formats.templates import HERMES, LLAMA, TOOLS
from tests.llm.making import make
from tests.models import tiny
from tests.scripted import EOS, N_VOCAB, ByteTokenizer, ScriptedConfig, ScriptedModel, noise

ASKED = {"role": "user", "content": "How is it"}
ROOM = ScriptedConfig(context_length=4096)
PLAIN = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
STRIPS = PLAIN.replace("m.content", "m.content | trim")
TRIMS = PLAIN.replace("{{ m.content }}", " {{ m.content | trim }} ")
TURNS = (
    "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}<think>\n"
    "{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
THINKS = PLAIN.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}").replace(
    "[assistant]{% endif", "[assistant]<think>\n{% endif"
)
TRANSFORMS = PLAIN.replace("m.content", "m.content | upper")


def writing(turn: str) -> Any:
    """Writes what is missing of ``turn`` after the last "[assistant]", then ends."""

    def rule(history: Sequence[int]) -> np.ndarray:
        said = bytes(token for token in history if token < 256).rpartition(b"[assistant]")[2]
        said = said.removeprefix(b"?")
        row = np.zeros(N_VOCAB, np.float32)
        whole = turn.encode()
        goes_on = whole.startswith(said) and len(said) < len(whole)
        row[whole[len(said)] if goes_on else EOS] = 50.0
        return row

    return rule


def scripted(template: str, rule: Any, **options: Any) -> LLM:
    return make(ScriptedModel(rule, ByteTokenizer(template), ROOM), **options)


def begun(content: Any, **more: Any) -> list[dict[str, Any]]:
    return [ASKED, {"role": "assistant", "content": content, **more}]


def written(template: str, content: Any, **more: Any) -> str:
    setting = ChatSetting.of(continue_final_message=True)
    tokenizer: Any = ByteTokenizer(template)
    return ChatWriter(tokenizer, setting).text(begun(content, **more))


USER = "[user]How is it<end>[assistant]"


@pytest.mark.parametrize(
    ("template", "content", "thought", "turn"),
    [
        (PLAIN, "So ", None, "So "),
        (PLAIN, "", None, ""),
        (TRIMS, "So ", None, " So"),
        (TRIMS, "motetmark0x", None, " motetmark0x"),
        (THINKS, "So", None, "So"),
        (THINKS, "<think>\nHm", None, "<think>\nHm"),
        (THINKS, "Hm</think>So", None, "<think>\nHm</think>So"),
        (THINKS, "So", "Hm", "<think>\nHm\n</think>\n\nSo"),
        (THINKS, None, "Hm", "<think>\nHm"),
        (TURNS, "So", "Hm", "<think>\nHm\n</think>\n\nSo"),
        (TURNS, "", "Hm", "<think>\nHm"),
        (TURNS, "<think>Hm</think> So ", None, "<think>Hm</think> So "),
    ],
)
def test_the_prompt_ends_with_what_was_said(
    template: str, content: Any, thought: str | None, turn: str
) -> None:
    more = {} if thought is None else {"reasoning_content": thought}
    user = USER.replace("]How is it<", "] How is it <") if template == TRIMS else USER
    assert written(template, content, **more) == user + turn


@pytest.mark.parametrize("template", [PLAIN, STRIPS, THINKS, TURNS, HERMES])
@pytest.mark.parametrize("content", ["So", "So  ", "\n So\n", "é\n\nSo"])
def test_the_prompt_is_that_of_transformers(template: str, content: str) -> None:
    pytest.importorskip("transformers")
    from transformers.utils.chat_template_utils import render_jinja_template

    texts: Any = render_jinja_template(
        [begun(content)], chat_template=template, continue_final_message=True
    )
    assert written(template, content) == texts[0][0]


def test_what_a_template_does_not_write_is_refused() -> None:
    for content, more in (("So", {}), ("SO", {"reasoning_content": "Hm"})):
        with pytest.raises(TokenizerError, match="does not write it as it is given"):
            written(TRANSFORMS, content, **more)
    assert written(TRANSFORMS.replace("upper", "string"), "So") == USER + "So"


@pytest.mark.parametrize("template", [HERMES, THINKS])
def test_an_answer_is_the_rest_wherever_it_is_cut(template: str) -> None:
    turn = "<think>\nWell\nthen, é\n</think>\n\nFine.\n\nStop"
    with scripted(template, writing(turn)) as llm:
        for cut in range(len("<think>"), len(turn)):
            answer = llm.chat(begun(turn[:cut]), temperature=0, continue_final_message=True)
            if "</think>" in turn[:cut]:
                assert (answer.reasoning, answer.text) == (None, turn[cut:])
            else:
                thought, _, said = turn.partition("</think>\n\n")
                rest = thought[cut:].removesuffix("\n")
                rest = rest.lstrip("\n") if cut == len("<think>") else rest
                if cut <= turn.index("</think>"):
                    assert (answer.reasoning, answer.text) == (rest, said)


def test_a_thought_goes_on() -> None:
    turn = "<think>\nHm\n- so\n</think>\n\nFine."
    with scripted(TURNS, writing(turn)) as llm:
        messages = begun(None, reasoning_content="Hm")
        answer = llm.chat(messages, temperature=0, continue_final_message=True)
        assert (answer.reasoning, answer.text) == ("\n- so", "Fine.")
        chunks = list(llm.chat(messages, temperature=0, continue_final_message=True, stream=True))
        assert "".join(chunk.reasoning for chunk in chunks) == answer.reasoning
        messages = begun("Fi", reasoning_content="Hm\n- so")
        answer = llm.chat(messages, temperature=0, continue_final_message=True)
        assert (answer.reasoning, answer.text) == (None, "ne.")


def test_the_answer_is_that_of_the_same_tokens_and_is_found_in_memory() -> None:
    with scripted(PLAIN, noise) as llm:
        first = llm.chat([ASKED], max_tokens=20, seed=1)
        said = first.text[:8].encode("utf-8", "replace").decode()
        messages = begun(said)
        ids = llm.chat_prompt(messages, continue_final_message=True)
        assert llm.render_chat(messages, continue_final_message=True) == USER + said
        alone = llm.generate(ids, max_tokens=9, seed=2, logprobs=1)
        again, other = llm.chat(
            [messages, begun("x")], max_tokens=9, seed=2, logprobs=1, continue_final_message=True
        )
        assert (again.tokens, again.logprobs) == (alone.tokens, alone.logprobs)
        assert again.usage.cached_tokens == len(ids) - 1 and other.tokens != again.tokens


def test_what_was_said_is_no_part_of_what_is_held() -> None:
    pytest.importorskip("llguidance")
    schema = {"enum": ["yes", "no"]}
    with scripted(PLAIN, noise) as llm:
        options: dict[str, Any] = {"json_schema": schema, "continue_final_message": True}
        answer = llm.chat(begun("I say: "), max_tokens=20, seed=1, **options)
        assert answer.text in ('"yes"', '"no"') and answer.finish_reason == "stop"


def test_calls_come_after_what_was_said() -> None:
    pytest.importorskip("llguidance")
    turn = 'Let me see.<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    with scripted(HERMES, writing(turn)) as llm:
        options: dict[str, Any] = {"tools": TOOLS, "temperature": 0}
        answer = llm.chat(begun("Let me"), continue_final_message=True, **options)
        assert (answer.text, answer.finish_reason) == (" see.", "tool_calls")
        assert [call.name for call in answer.tool_calls] == ["now"]
        with pytest.raises(OptionError, match="begins a call"):
            llm.chat(begun(turn[:30]), continue_final_message=True, **options)
        text = llm.chat(begun(turn[:30]), continue_final_message=True, temperature=0)
        assert text.text == turn[30:]
    with scripted(LLAMA, writing("Yes. No")) as llm:
        assert llm.chat(begun("Yes"), continue_final_message=True, **options).text == ". No"


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([ASKED], "not the assistant's"),
        (begun("x", tool_calls=[{"function": {"name": "now"}}]), "calls tools"),
        (begun(None), "'content'"),
        (begun(7), "'content'"),
        ([], "is empty"),
    ],
)
def test_what_is_not_continued(messages: Any, said: str) -> None:
    with scripted(PLAIN, noise) as llm, pytest.raises(MotetError, match=said):
        llm.chat(messages, continue_final_message=True)


def test_an_encoder_decoder_goes_on_from_nothing(tmp_path: Any) -> None:
    refused = pytest.raises(OptionError, match="encoder-decoder")
    with LLM(tiny.load(tmp_path, "t5")) as llm, refused:
        llm.chat(begun("x"), continue_final_message=True)


def test_marks_of_each_form_are_written_as_models_do() -> None:
    tokenizer: Any = ByteTokenizer(PLAIN)
    for mark, closing, text in (
        ("[THINK]", "[/THINK]", "[THINK]Hm[/THINK]So"),
        ("<|channel>thought\n", "<channel|>", "<|channel>thought\nHm<channel|>So"),
        ("<think>", "</think>", "<think>\nHm\n</think>\n\nSo"),
    ):
        thinking = chat_format(mark + closing, tokenizer).thinking
        assert thinking is not None and thinking.written("Hm", "So") == text
