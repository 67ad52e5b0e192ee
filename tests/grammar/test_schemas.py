"""JSON schemas: what satisfies them is accepted, what can't be held to is refused by name."""

import json
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from motet.errors import OptionError, UnsupportedError
from motet.grammar import GrammarCompiler, schema_text
from tests.grammar.bytewise import accepts, compiler

COMPILER = compiler()
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", [PERSON, json.dumps(PERSON), MappingProxyType(PERSON)])
def test_a_schema_as_a_dictionary_or_its_text(schema: Any) -> None:
    grammar = COMPILER.json_schema(schema)
    assert grammar is COMPILER.json_schema(PERSON)  # compiled once
    for text in ('{"name":"A","age":3}', '{ "name": "é\\n",\n  "age": 30\n}'):
        assert accepts(grammar, text) and json.loads(text)
    for text in ('{"name":"A"}', '{"name":"A","age":-1}', ' {"name":"A","age":3}', '{"name":1'):
        assert not accepts(grammar, text)


def test_any_json() -> None:
    for text in ("1.5e3", "null", '[{"a":[]},"b"]'):
        assert accepts(COMPILER.json_schema(True), text)
    assert accepts(COMPILER.json_schema({"type": "object"}), '{"a":1}')
    assert not accepts(COMPILER.json_schema({"type": "object"}), "[1]")


def test_white_space_is_bounded() -> None:
    grammar = COMPILER.json_schema({"type": "array"})
    assert accepts(grammar, "[\n        1,\n        2\n]")
    assert not accepts(grammar, "[" + " " * 50 + "1]")


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        (False, "false"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "minLength"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "minimum"),
        ({"properties": {"a": False}, "required": ["a"], "type": "object"}, "'a'"),
        ({"enum": []}, "can't be used"),
        ({"$ref": "#"}, "no text at all"),
        ({"not": {"type": "string"}}, "not supported: not"),
        ({"if": {}, "then": {}}, "if, then"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, "oneOf"),
        ({"type": "object", "minProperties": 2}, "minProperties"),
        ({"type": "string", "format": "uri-reference"}, "uri-reference"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "draft-03"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "x-guidance"),
        ({"type": "text"}, "text"),
        ({"type": "string", "minLength": "x"}, "minLength"),
        ({"properties": []}, "properties"),
        ("{", "no JSON"),
        ("3", "the JSON schema is 3"),
        ('{"maximum": NaN}', "NaN"),
        (3, "is 3"),
        ({"maximum": float("inf")}, "no JSON"),
        ({"const": b"a"}, "b'a'"),
        ({"const": "\ud800"}, "can't be used"),
    ],
)
def test_what_is_refused_says_why(schema: Any, named: str) -> None:
    with pytest.raises(OptionError) as refusal:
        COMPILER.json_schema(schema)
    assert named in str(refusal.value)
    assert len(str(refusal.value)) < 600


def test_nothing_is_fetched() -> None:
    with pytest.raises(OptionError, match=r"example\.com"):
        COMPILER.json_schema({"$ref": "https://example.com/person.json"})


def test_what_says_nothing_is_left_out() -> None:
    schema = {"type": "array", "uniqueItems": False, "items": {"type": "string", "format": "name"}}
    assert accepts(COMPILER.json_schema(schema), '["a","a"]')
    kept = json.loads(schema_text({"properties": {"format": {}}, "enum": [{"format": "name"}]}))
    assert kept["properties"] == {"format": {}} and kept["enum"] == [{"format": "name"}]


def test_a_property_has_one_spelling() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert not accepts(COMPILER.json_schema(schema), r'{"\u0061":"x"}')
    assert not accepts(COMPILER.json_schema(schema), '{"a":1,"a":2}')
    assert accepts(COMPILER.json_schema({"const": "a\0b"}), r'"a\u0000b"')
    assert not accepts(COMPILER.json_schema({"const": "a\0b"}), '"ab"')


def test_regular_expressions() -> None:
    for pattern, right, wrong in (
        (r"[0-9]{3}-[a-f]+", "123-abc", "12-a"),
        ("a/b", "a/b", "ab"),
        (r"\d{2}:\d{2}", "12:30", "1:30"),
        (" é+", " éé", "é"),
    ):
        assert accepts(COMPILER.regex(pattern), right)
        assert not accepts(COMPILER.regex(pattern), wrong)
    for pattern in ("", "(", "(?=a)", r"(a)\1", r"[^\s\S]", "\ud800", 3):
        with pytest.raises(OptionError):
            COMPILER.regex(pattern)  # type: ignore[arg-type]


def test_lark() -> None:
    grammar = COMPILER.gbnf_or_lark('start: "x" inner\ninner: %json {"type": "integer"}')
    assert accepts(grammar, "x12") and not accepts(grammar, "12")
    for text, problem in (
        ("start: foo", "foo"),
        ("start: <|nothing|>", "nothing"),
        ('start: "a', "1"),
        ('start: a\na: "x" a', "no text at all"),
        ("start: a\na[stop=/x/]: /.*/", "stop="),
        ("start: a\na[temperature=0.5]: /.*/", "temperature="),
    ):
        if "no text" not in problem:
            with pytest.raises(OptionError, match=problem):
                COMPILER.lark(text)


def test_what_can_not_be_had() -> None:
    with pytest.raises(UnsupportedError, match="no vocabulary"):
        GrammarCompiler(None, 10).regex("a")
    with pytest.raises(OptionError):
        COMPILER.lark(b"start: /a/")  # type: ignore[arg-type]


def test_masks_are_of_the_model_not_of_the_vocabulary() -> None:
    from tests.scripted import N_VOCAB, ByteTokenizer

    wider = GrammarCompiler(ByteTokenizer(), N_VOCAB + 7)  # type: ignore[arg-type]
    mask = wider.json_schema(True).matcher().mask()
    assert mask.shape == (N_VOCAB + 7,) and mask.dtype == np.float32
    assert np.isneginf(mask[N_VOCAB:]).all()
    assert set(np.unique(mask).tolist()) == {0.0, -np.inf}
