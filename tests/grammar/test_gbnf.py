"""llama.cpp's GBNF means what it says there, character for character."""

import re

import pytest

from motet.errors import OptionError
from motet.grammar.gbnf import gbnf_as_lark, is_gbnf
from tests.grammar.bytewise import accepts, compiler

COMPILER = compiler()
CASES = [
    ('root ::= "a" | "b"', ["a", "b"], ["c", "ab"]),
    ('root ::= ("one" | "two") "!"*', ["one", "two!!"], ["on"]),
    ("root ::= [a-zA-Z_0-9\\-]+ [^a-z]", ["a-b!"], ["ab"]),
    ('root ::= item{2,3}\nitem ::= "x"', ["xx", "xxx"], ["x", "xxxx"]),
    ('root ::= "a"{2} "b"{1,} "c"?', ["aab", "aabbc"], ["ab", "aac"]),
    ('root ::= "\\x41\\u0042\\U00000043" [\\u4e00-\\u9fff] [\\]\\[]', ["ABC中]"], ["ABCx]"]),
    ('root ::= "\\n" "\\t" "\\r" "\\\\" "\\""', ['\n\t\r\\"'], ["n"]),
    ('root ::= "a" # note\n  | "b"\n# more\n', ["a", "b"], ["#"]),
    ('root ::= (\n  "a" |\n  "b"\n)', ["a", "b"], ["\n"]),
    ('root ::= a-b aB a_b A\na-b ::= "1"\naB ::= "2"\na_b::="3"\nA ::= "4"', ["1234"], ["123"]),
    ("root ::= . .", ["a\n", "é中"], ["a"]),
    ('root ::= [$^.*+?(){}|/] "/"', ["$/", "^/", "//"], ["b/"]),
    ("root ::= [a-]", ["a", "-"], ["b"]),
    ('root ::= "[" (root ("," root)*)? "]"', ["[]", "[[],[[]]]"], ["[", "[,]"]),
    ('start ::= "x" root?\nroot ::= start "y" | "z"', ["z", "xy", "xzy"], ["x"]),
    # What a reader of the longest terminals would miss:
    ('root ::= [a-z]+ "x" tail\ntail ::= "!" tail | "."', ["abx.", "xx!!."], ["ab.", "x."]),
    ('root ::= "a" "bc" root? | "ab" "d" root?', ["abc", "abd", "abdabc"], ["ab"]),
]


@pytest.mark.parametrize(("text", "right", "wrong"), CASES)
def test_texts_of_a_grammar(text: str, right: list[str], wrong: list[str]) -> None:
    assert is_gbnf(text)
    grammar = COMPILER.gbnf_or_lark(text)
    assert [each for each in right if not accepts(grammar, each)] == []
    assert [each for each in wrong if accepts(grammar, each)] == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('root ::= "a', "line 1: a text is not closed"),
        ('root ::= "b"\nx ::= [a', "line 2: a class is not closed"),
        ("root ::= (", "a group is not closed"),
        ("root ::= b", "there is no rule b"),
        ('x ::= "a"', "no rule root"),
        ('root ::= "a" )', "')' is unexpected"),
        ("root ::= *", "'*' is unexpected"),
        ('root ::= "\\q"', "is no escape"),
        ('root ::= "\\ud800"', "U+D800 is no character"),
        ("root ::= []", "has no characters"),
        ('root ::= "a"\nroot ::= "b"', "twice"),
        ('root ::= "a" x ::= "b"', "is unexpected"),
        ("root ::= <[x]>", "a token is"),
        ('root ::= "a"\n"b"', "a rule is expected"),
        (f'root ::= {"(" * 200}"a"{")" * 200}', "within each other"),
    ],
)
def test_what_is_malformed_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(OptionError, match=re.escape(problem)):
        gbnf_as_lark(text)


def test_tokens_by_number_and_name() -> None:
    lark = gbnf_as_lark("root ::= <[97]> <think> !<[98]>")
    assert "<[97]> <think> <[^98]>" in lark
    matcher = COMPILER.gbnf_or_lark("root ::= <[97]> !<[98]>").matcher()
    assert (matcher.mask() == 0).nonzero()[0].tolist() == [97]
    matcher.take(97)
    assert matcher.mask()[98] != 0 and matcher.mask()[99] == 0
