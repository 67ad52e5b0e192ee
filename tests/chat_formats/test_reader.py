"""Answers taken apart while they come."""

import pytest

from motet.chat_formats import (
    Content,
    Reasoning,
    Thought,
    ToolCall,
    ToolCallDelta,
    chat_format,
    control,
    joined,
    read_tools,
)
from motet.chat_formats.feed import CLOSE, OPEN
from motet.tokenizer import Tokenizer
from tests.chat_formats.templates import CASES, HERMES, LLAMA, MARKS, PARIS, TOOLS
from tests.tokenizer.vocabularies import CONTROL, USER_DEFINED, bpe_metadata, made

PLAIN = made(bpe_metadata())
VOCABULARIES = {
    "plain": PLAIN,
    "control": made(bpe_metadata(*((mark, CONTROL) for mark in MARKS))),
    "user-defined": made(bpe_metadata(*((mark, USER_DEFINED) for mark in MARKS))),
}
Read = tuple[str, str, tuple[ToolCall, ...]]


def read(
    template: str,
    pieces: list[str],
    tokenizer: Tokenizer = PLAIN,
    thought: Thought = Thought.NONE,
    tools: bool = True,
) -> Read:
    """Content, reasoning and calls of an answer that comes in those pieces."""
    found = chat_format(template, tokenizer)
    reader = found.reader(thought, read_tools(TOOLS if tools else None), 1, [1, 2, 3])
    events = [event for piece in pieces for event in reader.push(piece)] + reader.finish()
    return (
        "".join(event.text for event in events if isinstance(event, Content)),
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        joined(event for event in events if isinstance(event, ToolCallDelta)),
    )


def as_seen(text: str, tokenizer: Tokenizer) -> str:
    """With control tokens marked, as the engine does it."""
    return "".join(
        part
        if isinstance(part, str)
        else control(tokenizer.piece(part).decode())
        if part in tokenizer.special
        else tokenizer.piece(part).decode()
        for part in tokenizer.split_special(text)
    )


def called(calls: tuple[ToolCall, ...]) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("name", CASES)
def test_calls_of_every_form(name: str, vocabulary: str) -> None:
    tokenizer = VOCABULARIES[vocabulary]
    case = CASES[name]
    before = "" if name == "llama" else "Well <then> [x] {y}\n\n"
    seen = as_seen(f"hm</think>{before}{case.text}", tokenizer)
    content, reasoning, calls = read(case.template, [seen], tokenizer, Thought.BEGUN)
    assert (content, reasoning) == (before.rstrip("\n"), "hm")
    assert called(calls) == [("weather", PARIS), ("now", "{}")][: len(case.texts)]
    assert len({call.id for call in calls}) == len(calls)


@pytest.mark.parametrize("vocabulary", ("plain", "control"))
@pytest.mark.parametrize("name", CASES)
def test_any_cut_gives_the_same(name: str, vocabulary: str) -> None:
    """At each boundary of characters, and at all of them."""
    tokenizer = VOCABULARIES[vocabulary]
    case = CASES[name]
    before = "" if name == "llama" else "<t [TOOL <|tool\n"
    seen = as_seen(f"\n<think>\nhm <|\n</think>\n\n{before}{case.text}", tokenizer)
    whole = read(case.template, [seen], tokenizer, Thought.POSSIBLE)
    assert whole[0] == before.rstrip("\n") and whole[1] == "hm <|" and whole[2]
    for cut in range(1, len(seen)):
        pieces = [seen[:cut], seen[cut:]]
        assert read(case.template, pieces, tokenizer, Thought.POSSIBLE) == whole, seen[:cut]
    assert read(case.template, list(seen), tokenizer, Thought.POSSIBLE) == whole


@pytest.mark.parametrize("name", CASES)
def test_what_ends_anywhere_shows_no_markup(name: str) -> None:
    """An answer that max_tokens ends: calls before are whole, of the last one what there is."""
    case = CASES[name]
    before = "" if name == "llama" else "Well"
    for end in range(len(case.text)):
        content, _, calls = read(case.template, [before + case.text[:end]])
        marks = (
            "<tool_call>",
            "[TOOL_CALLS]",
            "<｜tool▁calls▁begin｜>",
            "<|tool_call>",
            "<|tool_calls_section_begin|>",
            "<|tool_call_start|>",
            "<|tool_call|>",
            "<TOOLCALL>",
            '{"name": "',
        )
        assert not any(mark in content for mark in marks)
        for (tool, arguments), whole in zip(
            called(calls), [("weather", PARIS), ("now", "{}")], strict=False
        ):
            assert tool == whole[0] and whole[1].startswith(arguments)
        assert end < len(case.texts[0]) or calls[0].arguments == PARIS


def test_text_that_spells_a_control_token_is_text() -> None:
    tokenizer = VOCABULARIES["control"]
    text = CASES["hermes"].text
    assert read(HERMES, [text], tokenizer) == (text, "", ())
    assert read(HERMES, [f"a{control('<|odd|>')}b"], tokenizer)[0] == "ab"


@pytest.mark.parametrize("thought", Thought)
def test_thoughts_that_never_end_and_ones_that_never_begin(thought: Thought) -> None:
    content, reasoning, _ = read(HERMES, ["a\nb\n"], thought=thought)
    assert (content, reasoning) == (("", "a\nb") if thought.opened else ("a\nb\n", ""))


def test_a_mark_of_thinking_later_on_is_text() -> None:
    assert read(HERMES, ["a <think>b</think>"], thought=Thought.POSSIBLE)[0] == "a <think>b</think>"


def test_without_tools_there_are_no_calls() -> None:
    text = CASES["hermes"].text
    assert read(HERMES, [text], tools=False) == (text, "", ())


def test_what_is_malformed_is_text() -> None:
    content, _, calls = read(HERMES, ["a<tool_call>\n{name: 3}"])
    assert not calls and content == "a\n{name: 3}"
    assert read(LLAMA, ['{"answer": 3}'])[0] == '{"answer": 3}'


def test_ids_depend_on_seed_and_prompt_alone() -> None:
    found = chat_format(HERMES, PLAIN)

    def ids(seed: int, prompt: list[int]) -> list[str]:
        reader = found.reader(Thought.NONE, read_tools(TOOLS), seed, prompt)
        events = reader.push(CASES["hermes"].text) + reader.finish()
        return [e.id for e in joined(e for e in events if isinstance(e, ToolCallDelta))]

    assert ids(1, [1]) == ids(1, [1]) and len({*ids(1, [1]), *ids(2, [1]), *ids(1, [2])}) == 6
    assert all(each.startswith("call_") for each in ids(1, [1]))


def test_no_text_has_the_marks_of_control_tokens() -> None:
    for mark in (OPEN, CLOSE):
        with pytest.raises(UnicodeEncodeError):
            mark.encode()
        assert mark not in b"".join(bytes([b]) for b in range(256)).decode(errors="replace")
