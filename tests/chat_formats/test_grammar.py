"""What grammars of calls allow: random walks through them, whatever the vocabulary."""

import json
from typing import Any

import numpy as np
import pytest

from motet.chat_formats import (
    ChatFormat,
    Content,
    Reasoning,
    Thought,
    Tool,
    ToolCall,
    ToolCallDelta,
    chat_format,
    control,
    joined,
    read_choice,
    read_tools,
)
from motet.errors import OptionError
from motet.grammar import Grammar, GrammarCompiler
from motet.tokenizer import IncrementalDecoder, Tokenizer
from tests.chat_formats.templates import CASES, CODER, GEMMA, HERMES, TOOLS
from tests.chat_formats.test_reader import VOCABULARIES, as_seen

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("llguidance", reason="needs llguidance, the extra motet[grammar]")
COMPILERS = {name: GrammarCompiler(each, each.n_vocab) for name, each in VOCABULARIES.items()}
READ = read_tools(TOOLS)
PREFERRED = (*b'"},]<\n/|',)
"""Bytes that close something; walks would hardly end without."""


def walk(grammar: Grammar, rng: np.random.Generator, most: int = 250) -> tuple[list[int], bool]:
    """Tokens at random, and whether they came to an end."""
    tokenizer, matcher = grammar.tokenizer, grammar.matcher()
    tokens: list[int] = []
    while len(tokens) < most:
        mask = matcher.mask()
        allowed = np.flatnonzero(mask[: tokenizer.n_vocab] == 0)
        closing = [t for t in allowed if tokenizer.piece(int(t)) in {bytes([b]) for b in PREFERRED}]
        token = int(rng.choice(closing if closing and rng.random() < 0.7 else allowed))
        ended = matcher.take(token)
        if token in tokenizer.eog and ended:
            return tokens, True
        tokens.append(token)
        if matcher.complete:
            return tokens, True
    return tokens, False


def taken(
    found: ChatFormat, tokens: list[int], ends: bool, tokenizer: Tokenizer, thought: Thought
) -> tuple[str, str, tuple[ToolCall, ...]]:
    reader = found.reader(thought, READ, 1, [1])
    decoder = IncrementalDecoder(tokenizer)
    events: list[Any] = []
    for token in tokens:
        text = decoder.push(token)
        if token in tokenizer.special:
            spelling = tokenizer.piece(token).decode()
            text = text.removesuffix(spelling) + control(spelling)
        events += reader.push(text)
    events += reader.finish(cut=not ends)
    return (
        "".join(event.text for event in events if isinstance(event, Content)),
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        joined(event for event in events if isinstance(event, ToolCallDelta)),
    )


def validate(call: ToolCall, tools: tuple[Tool, ...] = READ) -> None:
    schema = next(tool.schema for tool in tools if tool.name == call.name)
    jsonschema.validate(json.loads(call.arguments), schema)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("name", CASES)
def test_required_calls_are_calls_of_the_tools(name: str, vocabulary: str) -> None:
    tokenizer = VOCABULARIES[vocabulary]
    found = chat_format(CASES[name].template, tokenizer)
    rng = np.random.default_rng(sum(map(ord, name + vocabulary)))
    ended = 0
    for thought in (Thought.NONE, Thought.POSSIBLE):
        choice = read_choice("required", READ)
        grammar = found.grammar(READ, choice, True, thought)
        assert grammar is not None
        for _ in range(6):
            tokens, ends = walk(COMPILERS[vocabulary].lark(grammar), rng)
            content, _, calls = taken(found, tokens, ends, tokenizer, thought)
            assert not content
            if ends:
                ended += 1
                assert calls
                for call in calls:
                    validate(call)
    assert ended


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_what_models_write_is_allowed_and_no_other_call(name: str, vocabulary: str) -> None:
    tokenizer = VOCABULARIES[vocabulary]
    found = chat_format(CASES[name].template, tokenizer)
    before = "" if name == "llama" else "Let me see: {} <b> \n"
    text = CASES[name].text
    wide = read_tools(
        [{**TOOLS[0], "function": {**TOOLS[0]["function"], "parameters": _WIDE}}, TOOLS[1]]
    )
    allowed = {
        (mode, parallel): _accepts(
            found, COMPILERS[vocabulary], before * (mode == "auto") + text, wide, mode, parallel
        )
        for mode in ("auto", "required", "none")
        for parallel in (True, False)
    }
    several = len(CASES[name].texts) > 1
    assert allowed == {
        ("auto", True): True,
        ("auto", False): not several,
        ("required", True): True,
        ("required", False): not several,
        ("none", True): False,
        ("none", False): False,
    }
    assert not _accepts(found, COMPILERS[vocabulary], text.replace("weather", "leather"), wide)
    assert not _accepts(found, COMPILERS[vocabulary], text.replace("3", '"x"'), wide)
    for mode in ("auto", "none"):
        assert _accepts(found, COMPILERS[vocabulary], "No, {I} won't. [x] <b>", wide, mode)
    assert not _accepts(found, COMPILERS[vocabulary], "No.", wide, "required")
    named = {"type": "function", "function": {"name": "now"}}
    assert not _accepts(found, COMPILERS[vocabulary], text, wide, named)


_WIDE = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}


def _accepts(
    found: ChatFormat,
    compiler: GrammarCompiler,
    text: str,
    tools: tuple[Tool, ...],
    choice: Any = "auto",
    parallel: bool = True,
    thought: Thought = Thought.NONE,
    inner: str | None = None,
) -> bool:
    """Whether the grammar allows the text, and an end after it."""
    lark = found.grammar(tools, read_choice(choice, tools), parallel, thought, inner)
    assert lark is not None
    grammar = compiler.lark(lark)
    matcher, tokenizer = grammar.matcher(), grammar.tokenizer
    for token in tokenizer.encode(text, add_special=False, parse_special=True):
        if matcher.complete or matcher.mask()[token] != 0:
            return False
        matcher.take(token)
    return matcher.complete or matcher.mask()[tokenizer.eos] == 0


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_thoughts_come_before_what_is_held(vocabulary: str) -> None:
    found, compiler = chat_format(HERMES, VOCABULARIES[vocabulary]), COMPILERS[vocabulary]
    inner = '%json {"type": "object"}'
    call = CASES["hermes"].texts[1].lstrip("\n")

    def accepts(text: str, thought: Thought, tools: tuple[Tool, ...] = (), **options: Any) -> bool:
        return _accepts(found, compiler, text, tools, thought=thought, **options)

    assert accepts('so </think>\n\n{"a": 1}', Thought.BEGUN, inner=inner)
    assert accepts('<think>so</think>{"a": 1}', Thought.POSSIBLE, inner=inner)
    assert accepts('{"a": 1}', Thought.POSSIBLE, inner=inner)
    assert not accepts("so", Thought.BEGUN, inner=inner)
    assert not accepts("<think>so</think>so", Thought.POSSIBLE, inner=inner)
    for thought, begin in ((Thought.BEGUN, "so</think>"), (Thought.POSSIBLE, "<think>so</think>")):
        assert accepts(f"{begin}\n\n{call}", thought, READ, choice="required")
        assert accepts(f"{begin}Well.\n{call}", thought, READ)
        assert accepts(f"{begin}{call}", thought, READ, inner=inner)
        assert accepts(f'{begin}{{"a": 1}}', thought, READ, inner=inner)
        assert not accepts(f"{begin}Well.\n{call}", thought, READ, inner=inner)


@pytest.mark.parametrize("template", (CODER, GEMMA))
@pytest.mark.parametrize(
    "schema",
    (
        {"properties": {"a": {"type": "string", "pattern": "x"}}},
        {"properties": {"a": {"type": "string"}}, "required": ["b"]},
        {"properties": {"a": {"type": "string"}}, "minProperties": 1},
        {"properties": {"a": {"$ref": "#/nowhere"}}},
        {"properties": {"a": {"$ref": "#/properties/a"}}},
    ),
)
def test_a_schema_that_a_notation_can_not_hold_to_is_refused(
    template: str, schema: dict[str, Any]
) -> None:
    tools = read_tools([{"type": "function", "function": {"name": "f", "parameters": schema}}])
    found = chat_format(template, VOCABULARIES["plain"])
    with pytest.raises(OptionError, match="tool 'f'"):
        found.grammar(tools, read_choice("auto", tools), True, Thought.NONE)


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_read_as_it_was(name: str) -> None:
    """Every text that a grammar allows is parsed by the reader, control tokens or not."""
    tokenizer = VOCABULARIES["control"]
    found = chat_format(CASES[name].template, tokenizer)
    seen = as_seen(CASES[name].text, tokenizer)
    reader = found.reader(Thought.NONE, READ, 1, [1])
    calls = joined(e for e in reader.push(seen) + reader.finish() if isinstance(e, ToolCallDelta))
    assert [call.name for call in calls] == ["weather", "now"][: len(calls)]
