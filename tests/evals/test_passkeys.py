import json
import re
from typing import Any

import pytest

from motet.errors import OptionError
from motet.evals.haystack import ASK_KEY
from motet.evals.passkeys import INSTRUCTION, Passkeys, read_passkeys
from tests.evals.models import loaded
from tests.scripted import BOS, ByteTokenizer
from tests.shared import SHARED, needs_shared

LINE = {"input": "grass The pass key is 48. grass ", "target": "48", "passkey_position": 6}


def read(*lines, tokenizer: Any = None):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    bytes_alone: Any = ByteTokenizer()
    return read_passkeys(text, "keys.jsonl", tokenizer or bytes_alone)


def test_a_line_is_a_prompt_its_question_and_its_key():
    first, second = read(
        LINE, "", LINE | {"input": LINE["input"].replace("48", "93"), "target": 93}
    )
    assert bytes(first.prompt[1:]).decode() == LINE["input"] + ASK_KEY
    assert first.prompt[0] == BOS
    assert bytes(first.answer) == b" 48" and bytes(second.answer) == b" 93"
    assert first.length == len(first.prompt) + 3
    assert (first.seed, second.seed) == (1, 3)  # the lines' numbers
    others = {bytes(other).decode() for other in first.others}
    assert len(others) == 3 and " 48" not in others
    assert all(len(other) == 3 and other[1:].isdecimal() for other in others)


@pytest.mark.parametrize("told", [{}, {"passkey_position": 6}, {"passkey_position": "x"}])
def test_the_depth_is_where_the_key_stands(told):
    """The file's own positions are in tokens of another model, and wrong in half of its lines."""
    (trial,) = read({name: LINE[name] for name in ("input", "target")} | told)
    assert trial.depth == round(22 / len(LINE["input"]), 2)


def test_a_key_that_is_not_told():
    with pytest.raises(OptionError, match=r"line 1: the key 47 is not in the input"):
        read(LINE | {"target": "47"})


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        "[" * 100_000,
        '{"input": "x"}',
        '{"input": 4, "target": "4"}',
        '{"input": 4, "target": "4", "passkey_position": 1}',
        '{"input": ["4"], "target": "4"}',
    ],
)
def test_other_lines_are_refused_by_number(line):
    with pytest.raises(OptionError, match=r"keys\.jsonl: line 2 is not a pass-key example"):
        read(LINE, line)


@pytest.mark.parametrize("target", ["", "abc", "-4", "4.5", "٤", "1" * 19])
def test_targets_that_are_no_keys(target):
    with pytest.raises(OptionError, match=r"line 1: the target .* is not a key"):
        read(LINE | {"target": target})


def test_an_empty_file():
    with pytest.raises(OptionError, match="no examples"):
        read("")


@needs_shared
def test_longlms_own_file():
    path = SHARED / "eval" / "passkey_examples.jsonl"
    tokenizer = loaded("motet-tiny").tokenizer
    trials = read_passkeys(path.read_text("utf-8"), path.name, tokenizer)
    assert [tokenizer.decode(list(trial.answer)).strip() for trial in trials] == [
        "72498", "89427", "58328", "1127250844",
    ]  # fmt: skip
    assert [trial.depth for trial in trials] == [0.64, 0.51, 0.59, 0.55]
    assert all(trial.length > 4000 for trial in trials)


@needs_shared
@pytest.mark.parametrize("line", [0, 1])
def test_made_prompts_are_longlms_to_the_letter(line):
    text = (SHARED / "eval" / "passkey_examples.jsonl").read_text("utf-8").splitlines()[line]
    (given,) = read(text, tokenizer=loaded("motet-tiny").tokenizer)
    example = json.loads(text)
    before, after = (part.count("There and back") for part in example["input"].split("Remember"))
    depth = before / (before + after)
    made = Passkeys(loaded("motet-tiny").tokenizer).make(given.length, depth, 0)
    assert len(made.prompt) == len(given.prompt)
    keys = [re.findall(r"\d{5}", words(trial.prompt)) for trial in (made, given)]
    assert keys[0] == [words(made.answer).strip()] * 2
    assert words(given.prompt).replace(keys[1][0], keys[0][0]) == words(made.prompt)


def words(ids) -> str:
    tokenizer = loaded("motet-tiny").tokenizer
    return tokenizer.decode([token for token in ids if token != tokenizer.bos])


@pytest.mark.parametrize("digits", [3, 5, 12])
@pytest.mark.parametrize("depth", [0.0, 0.3, 0.5, 1.0])
def test_made_prompts_have_whole_lines_and_the_depth(depth, digits):
    maker = Passkeys(loaded("motet-tiny").tokenizer, digits)
    for length in (256, 1000):
        made = maker.make(length, depth, 3)
        tokens = len(made.prompt) + len(made.answer)
        assert made.length == length and length - 40 < tokens <= length
        text, key = words(made.prompt), words(made.answer).strip()
        assert len(key) == digits and made.positions < length
        first, *lines = text.split("\n")
        assert f"{first}\n" == INSTRUCTION
        lines[-1] = lines[-1].removesuffix(ASK_KEY)
        told = f"The pass key is {key}. Remember it. {key} is the pass key."
        assert lines.index(told) == round((len(lines) - 1) * depth)
        assert len({line for line in lines if line != told}) == 1
        assert maker.make(length, depth, 3) == made != maker.make(length, depth, 4)


def test_too_short_for_a_prompt():
    maker = Passkeys(loaded("motet-tiny").tokenizer)
    with pytest.raises(OptionError, match=r"haystack of 100 tokens .* at least (\d+)") as caught:
        maker.make(100, 0.5, 0)
    enough = int(str(caught.value).split("at least ")[1].rstrip(")"))
    assert maker.make(enough, 0.5, 0).length == enough
    assert maker.make(enough - 64, 0.5, 0).length == enough - 64
