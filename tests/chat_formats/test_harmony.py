"""Messages in channels, as gpt-oss writes them: taken apart, and held to their form."""

from typing import Any

import pytest

from motet.chat_formats import Thought, chat_format, read_choice, read_tools
from motet.errors import TokenizerError
from motet.tokenizer import chat
from tests.chat_formats.templates import PARIS, TOOLS
from tests.chat_formats.test_reader import as_seen, called, read
from tests.tokenizer.vocabularies import CONTROL, bpe_metadata, made

MARKS = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>")
ENDS = ("<|call|>", "<|return|>")
TEMPLATE = (
    "{{ '<|start|>system<|message|># Valid channels: analysis, commentary, final.<|end|>' }}"
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}{{ '<|start|>' + m.role }}{% if m.tool_calls %}"
    "{% if m.content and m.thinking %}{{ raise_exception('one of both') }}{% endif %}"
    "{% set c = m.tool_calls[0].function %}"
    "{{ '<|channel|>analysis<|message|>' + (m.content or m.thinking or '') + '<|end|>' }}"
    "{{ '<|start|>assistant to=functions.' + c.name + '<|channel|>commentary json<|message|>' }}"
    "{{ c.arguments | tojson + '<|call|>' }}{% else %}"
    "{% if m.role == 'assistant' %}{{ '<|channel|>final' }}{% endif %}"
    "{{ '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
    "{# <|start|>assistant<|channel|>final<|message|> #}"
)
TOKENIZER = made(bpe_metadata(*((mark, CONTROL) for mark in (*MARKS, *ENDS))))
PLAIN = made(bpe_metadata())
NEXT = "<|end|><|start|>assistant"
THOUGHT = "<|channel|>analysis<|message|>hm\n<b>"
BEHIND = f"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{PARIS}"
BEFORE = f" to=functions.weather<|channel|>commentary json<|message|>{PARIS}"
CALLS = (BEHIND, BEFORE)
PREAMBLE = "<|channel|>commentary<|message|>I'll look."
FINAL = "<|channel|>final<|message|>It's 22.\n"
FOUND = chat_format(TEMPLATE, TOKENIZER)


def seen(text: str) -> str:
    return as_seen(text, TOKENIZER)


def taken(
    text: str, thought: Thought = Thought.POSSIBLE, tools: bool = True, spelt: bool = True
) -> Any:
    """Content, reasoning and calls, the same for every cut of the text.

    ``spelt``: and where the vocabulary has no marks.
    """
    whole = read(TEMPLATE, [seen(text)], TOKENIZER, thought, tools)
    assert read(TEMPLATE, list(seen(text)), TOKENIZER, thought, tools) == whole
    assert not spelt or read(TEMPLATE, [text], PLAIN, thought, tools) == whole
    return whole[0], whole[1], called(whole[2])


def test_where_a_prompt_leaves_the_model() -> None:
    for end, thought in (
        ("<|start|>assistant", Thought.POSSIBLE),
        ("<|start|>assistant<|channel|>analysis<|message|>", Thought.BEGUN),
        ("<|start|>assistant<|channel|>final<|message|>", Thought.NONE),
        ("<|start|>assistant<|channel|>final<|message|>Well", Thought.NONE),
    ):
        assert FOUND.thought(f"<|start|>user<|message|>hi<|end|>{end}") is thought
    silent = FOUND.without_thought("<|start|>assistant")
    assert silent == "<|start|>assistant<|channel|>analysis<|message|><|end|><|start|>assistant"
    assert FOUND.without_thought("<|channel|>final<|message|>") == "<|channel|>final<|message|>"


def test_thoughts_and_text() -> None:
    assert taken(f"{THOUGHT}{NEXT}{FINAL}") == ("It's 22.\n", "hm\n<b>", [])
    assert taken(FINAL) == ("It's 22.\n", "", [])
    assert taken(f"hm{NEXT}{FINAL}", Thought.BEGUN) == ("It's 22.\n", "hm", [])
    assert taken(f"\nhm{NEXT}{FINAL}", Thought.MIDWAY) == ("It's 22.\n", "\nhm", [])
    assert taken("\n and so on", Thought.NONE) == ("\n and so on", "", [])
    several = f"{THOUGHT}{NEXT}{PREAMBLE}{NEXT}{THOUGHT}{NEXT}{FINAL}"
    assert taken(several) == ("I'll look.\n\nIt's 22.\n", "hm\n<b>\n\nhm\n<b>", [])


def test_what_is_said_thought_and_called_as_the_template_takes_it() -> None:
    tools = [tool.given for tool in read_tools(TOOLS)]
    called = {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    asked = {"role": "user", "content": "hi"}
    said = {"role": "assistant", "content": "Wait.", "tool_calls": [called]}

    def written(message: dict[str, Any]) -> str:
        text = chat.render(TEMPLATE, [asked, message], TOKENIZER, False, tools=tools)
        return text.partition("hi<|end|>")[2]

    call = "<|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}<|call|>"
    thought = "<|start|>assistant<|channel|>analysis<|message|>"
    assert written({**said, "content": None}) == f"{thought}<|end|>{call}"
    assert written(said) == f"{thought}Wait.<|end|>{call}"
    final = "<|start|>assistant<|channel|>final<|message|>Wait.<|end|>"
    assert written({**said, "reasoning": "hm"}) == f"{final}{thought}hm<|end|>{call}"
    with pytest.raises(TokenizerError, match="message 1 has 2 calls"):
        written({**said, "tool_calls": [called, called]})


@pytest.mark.parametrize("call", CALLS)
def test_calls(call: str) -> None:
    weather = [("weather", PARIS)]
    assert taken(call) == ("", "", weather)
    assert taken(f"{THOUGHT}{NEXT}{call}") == ("", "hm\n<b>", weather)
    assert taken(f"{THOUGHT}{NEXT}{PREAMBLE}{NEXT}{call}") == ("I'll look.", "hm\n<b>", weather)
    assert taken(f"Well{NEXT}{call}", Thought.NONE) == ("Well", "", weather)
    # Of no tools, and of others than there are, they are text.
    assert taken(call, tools=False) == (PARIS, "", [])
    assert taken(call.replace("weather", "leather")) == (PARIS, "", [])
    assert taken(call.replace("functions.", "python.")) == (PARIS, "", [])


@pytest.mark.parametrize("call", CALLS)
def test_what_ends_anywhere_shows_no_markup(call: str) -> None:
    text = seen(f"{THOUGHT}{NEXT}{call}")
    for end in range(len(text)):
        reader = FOUND.reader(Thought.POSSIBLE, read_tools(TOOLS), 1, [1])
        events = reader.push(text[:end]) + reader.finish(cut=True)
        said = "".join(getattr(e, "text", "") or getattr(e, "arguments", "") for e in events)
        assert f"hm\n<b>{PARIS}".startswith(said)


def test_what_is_no_message_is_text() -> None:
    assert taken("Hello.\n") == ("Hello.\n", "", [])
    other = f"{FINAL}{NEXT.replace('assistant', 'user')}"
    assert taken(other, spelt=False) == ("It's 22.user", "", [])
    assert taken("<|channel|>" + "x" * 600, spelt=False) == ("x" * 600, "", [])
    assert taken(BEFORE.replace(PARIS, "soon"))[1:] == ("", [("weather", "")])
    assert taken("<|channel|>final <|constrain|>JSON<|message|>{}") == ("{}", "", [])


@pytest.fixture(scope="module")
def accepts() -> Any:
    """Whether the grammar allows a text, whatever the vocabulary."""
    pytest.importorskip("llguidance", reason="needs llguidance, the extra motet[grammar]")
    from motet.grammar import GrammarCompiler
    from tests.chat_formats.test_grammar import _WIDE, _accepts

    tools = read_tools(
        [{**TOOLS[0], "function": {**TOOLS[0]["function"], "parameters": _WIDE}}, TOOLS[1]]
    )
    compilers = {each: GrammarCompiler(each, each.n_vocab) for each in (TOKENIZER, PLAIN)}

    def accepts(text: str, choice: Any = "auto", **options: Any) -> bool:
        options = {"thought": Thought.POSSIBLE, **options}
        of = options.pop("tools", tools)
        found = {
            _accepts(chat_format(TEMPLATE, t), c, text, of, choice, True, **options)
            for t, c in compilers.items()
        }
        assert len(found) == 1, text
        return found.pop()

    return accepts


@pytest.mark.parametrize("call", CALLS)
def test_grammar_of_calls(accepts: Any, call: str) -> None:
    for begin in ("", f"{THOUGHT}{NEXT}", f"{THOUGHT}{NEXT}{THOUGHT}{NEXT}"):
        for choice in ("auto", "required"):
            assert accepts(f"{begin}{call}", choice)
        assert not accepts(f"{begin}{call}", "none")
        assert accepts(f"{begin}{FINAL}") and not accepts(f"{begin}{FINAL}", "required")
    assert accepts(f"{THOUGHT}{NEXT}{PREAMBLE}{NEXT}{call}")
    assert not accepts(f"{PREAMBLE}{NEXT}{call}", "required")
    for wrong in (call.replace("weather", "leather"), call.replace("3", '"x"'), "No."):
        assert not accepts(wrong)
    assert not accepts(f"{call}{NEXT}{call}")
    named = {"type": "function", "function": {"name": "now"}}
    assert not accepts(call, named) and accepts(
        call.replace("weather", "now").replace(PARIS, "{}"), named
    )


def test_schemas_of_what_is_said(accepts: Any) -> None:
    held = {"inner": '%json {"type": "object"}', "tools": ()}
    final = "<|channel|>final<|message|>"
    assert accepts(f'{THOUGHT}{NEXT}{final}{{"a": 1}}', **held)
    assert accepts(f'{final}{{"a": 1}}', **held)
    assert accepts(f'hm{NEXT}{final}{{"a": 1}}', **held, thought=Thought.BEGUN)
    assert accepts('{"a": 1}', **held, thought=Thought.NONE)
    for wrong in ('{"a": 1}', f"{final}so", PREAMBLE, THOUGHT):
        assert not accepts(wrong, **held)


def test_no_grammar_where_all_is_free() -> None:
    assert FOUND.grammar((), read_choice("auto", ()), True, Thought.POSSIBLE) is None
