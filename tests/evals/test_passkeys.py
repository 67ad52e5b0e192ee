import json
from typing import Any

import pytest

from motet.errors import OptionError
from motet.evals.haystack import ASK_KEY
from motet.evals.passkeys import read_passkeys
from tests.evals.models import loaded
from tests.scripted import BOS, ByteTokenizer
from tests.shared import SHARED, needs_shared

LINE = {"input": "grass The pass key is 48. grass ", "target": "48", "passkey_position": 6}


def read(*lines, tokenizer: Any = None):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    bytes_alone: Any = ByteTokenizer()
    return read_passkeys(text, "keys.jsonl", tokenizer or bytes_alone)


def test_a_line_is_a_prompt_its_question_and_its_key():
    first, second = read(LINE, "", LINE | {"target": 93})
    assert bytes(first.prompt[1:]).decode() == LINE["input"] + ASK_KEY
    assert first.prompt[0] == BOS
    assert bytes(first.answer) == b" 48" and bytes(second.answer) == b" 93"
    assert first.length == len(first.prompt) + 3
    assert (first.seed, second.seed) == (1, 3)  # the lines' numbers
    assert first.depth == round(6 / len(LINE["input"]), 2)
    others = {bytes(other).decode() for other in first.others}
    assert len(others) == 3 and " 48" not in others
    assert all(len(other) == 3 and other[1:].isdecimal() for other in others)


def test_without_a_position_it_is_looked_for():
    (trial,) = read({name: LINE[name] for name in ("input", "target")})
    assert trial.depth == round(22 / len(LINE["input"]), 2)


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
        '{"input": "x", "target": "4", "passkey_position": "x"}',
        '{"input": "x", "target": "4", "passkey_position": Infinity}',
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
    assert [trial.depth for trial in trials] == [0.27, 0.19, 0.16, 0.15]
    assert all(trial.length > 4000 for trial in trials)
