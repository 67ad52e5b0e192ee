"""Calls as text: what forms write is what templates write, and LFM2's notation, Python's."""

import json
from typing import Any

import numpy as np
import pytest

from motet.chat_formats import Thought, chat_format, read_tools
from tests.chat_formats.templates import CASES, LFM, LFM_CALLS, PARIS
from tests.chat_formats.test_reader import PLAIN, VOCABULARIES, Read, as_seen, called, read

BEGIN, END = "<|tool_call_start|>[", "]<|tool_call_end|>"
IDS = {"mistral": ("abcdefghi", "123456789"), "mistral ids": ("abcdefghi", "123456789")}


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_what_models_write(name: str) -> None:
    case = CASES[name]
    form = chat_format(case.template, PLAIN).require_calls()
    calls = [("weather", json.loads(PARIS)), ("now", {})][: len(case.texts)]
    expected = case.text
    for number, each in enumerate(IDS.get(name, ())):
        expected = expected.replace(each, f"{number:09}")
    assert form.written(calls) == expected


def cut_anywhere(text: str, vocabulary: str = "plain") -> Read:
    """What is read of a text, however it comes."""
    tokenizer, rng = VOCABULARIES[vocabulary], np.random.default_rng(len(text))
    whole = read(LFM, [text], tokenizer)
    for _ in range(30):
        cuts = sorted(rng.integers(0, len(text) + 1, rng.integers(1, 9)).tolist())
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert read(LFM, pieces, tokenizer) == whole, pieces
    return whole


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"Paris"', "Paris"),
        ("'it is \"so\"'", 'it is "so"'),
        (r"'it\'s \n \\ \" \d'", "it's \n \\ \" \\d"),
        (r'"\u00e9\x41\ud83d\ude00\u12"', "éA😀\\u12"),
        ("'a\nb'", "a\nb"),
        ("''", ""),
        ('"]<|tool_call_end|>, )"', "]<|tool_call_end|>, )"),
        ("-3", -3),
        ("2.5e3", 2500.0),
        ("True", True),
        ("false", False),
        ("None", None),
        ("null", None),
        ("soon", "soon"),
        ("[]", []),
        ("[1, 'a',\"b\" , [True]]", [1, "a", "b", [True]]),
        ("{'a': 1, \"b\" : {'c': None}}", {"a": 1, "b": {"c": None}}),
        ("{}", {}),
    ],
)
def test_literals(written: str, value: Any) -> None:
    text = f"Well.{BEGIN}other(a={written}, b = {written} ){END}"
    content, _, calls = cut_anywhere(text)
    ((name, arguments),) = called(calls)
    assert (content, name) == ("Well.", "other")
    assert json.loads(arguments) == {"a": value, "b": value}
    tokens = as_seen(f"{BEGIN}other(@){END}", VOCABULARIES["control"])
    seen = tokens.replace("@", f"a={written}")
    assert json.loads(cut_anywhere(seen, "control")[2][0].arguments) == {"a": value}


@pytest.mark.parametrize(
    "text",
    [
        f"{BEGIN}other{END}",
        f"{BEGIN}{END}",
        f"{BEGIN}other(a=){END}",
        f"{BEGIN}other(a=1 2='{END}",
        f"{BEGIN}other(a={'[' * 99}",
        f"{BEGIN}other(a={{1: 2}}){END}",
        f"{BEGIN}other(a='b",
        f"{BEGIN}other(a='b\\",
        f"{BEGIN}other(a",
        f"{BEGIN}other(a=1",
        "<|tool_call_start|>{}",
    ],
)
def test_what_is_no_call(text: str) -> None:
    """Malformed or cut short: at most the name, and of the arguments what was right."""
    content, _, calls = cut_anywhere(f"a{text}")
    assert content.startswith("a")
    assert all(name == "other" and not said.endswith("}") for name, said in called(calls))


def test_a_template_with_other_quotes_is_of_the_same_form() -> None:
    assert chat_format(LFM_CALLS, PLAIN).form == chat_format(LFM, PLAIN).form


@pytest.fixture(scope="module")
def accepts() -> Any:
    """Whether the grammar allows a call of these arguments, whatever the vocabulary."""
    pytest.importorskip("llguidance", reason="needs llguidance, the extra motet[grammar]")
    from tests.chat_formats.test_grammar import COMPILERS, _accepts

    def accepts(schema: dict[str, Any], arguments: str) -> bool:
        parameters = {"type": "object", "properties": schema, "required": list(schema)[:1]}
        function = {"name": "f", "parameters": parameters}
        tools = read_tools([{"type": "function", "function": function}])
        text = f"{BEGIN}f({arguments}){END}"
        found = {
            _accepts(chat_format(LFM, each), COMPILERS[name], text, tools, "required")
            for name, each in VOCABULARIES.items()
        }
        assert len(found) == 1, text
        return found.pop()

    return accepts


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        (
            {"type": "string", "maxLength": 3},
            ['"a b"', "'é\n!'", "''", r"'\'\\\n'"],
            ["'abcd'", "a", '"a', "3", r"'\d'"],
        ),
        ({"enum": ["it's", 'so "x"']}, ['"it\'s"', r"'it\'s'", r'"so \"x\""'], ["'it'"]),
        ({"enum": [1, None, True]}, ["1", "None", "null", "True", "true"], ["2", "False"]),
        ({"type": "boolean"}, ["True", "False", "true"], ["0", "'True'"]),
        ({"type": ["integer", "null"]}, ["-3", "None", "null"], ["3.5", "nil"]),
        ({"type": "array", "items": {"type": "number"}}, ["[]", "[1, 2.5]"], ["[1,2]", "['a']"]),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {}},
                "required": ["a"],
            },
            ["{'a': 'x'}", '{"a": "x", "b": None}', "{'a': '', 'b': 3}"],
            ["{}", "{'b': 3}", "{'a': 3}", "{a: 'x'}"],
        ),
    ],
)
def test_values_by_their_schema(
    accepts: Any, schema: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    for value in right:
        assert accepts({"a": schema}, f"a={value}"), value
        assert accepts({"a": schema, "b": {"type": "integer"}}, f"a={value}, b=1"), value
    for value in wrong:
        assert not accepts({"a": schema}, f"a={value}"), value
    assert not accepts({"a": schema}, "")


def test_calls_by_hand() -> None:
    """Of the model's card: arguments between double quotes; several calls; text after them."""
    text = f'{BEGIN}status(id="12345"), now(){END}Checking the status.'
    content, _, calls = read(LFM, [text], thought=Thought.NONE)
    assert called(calls) == [("status", '{"id": "12345"}'), ("now", "{}")]
    assert content == "Checking the status."
    assert read(LFM, [text], tools=False)[0] == text
