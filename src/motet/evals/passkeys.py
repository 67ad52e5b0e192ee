"""LongLM's file of pass-key prompts, ``passkey_examples.jsonl``."""

import json

import numpy as np

from motet.errors import OptionError
from motet.evals.haystack import ASK_KEY, WRONG, Trial, different_keys
from motet.tokenizer import Tokenizer

_MOST_DIGITS = 18
"""Of a key, so that it is a 64-bit number."""


def read_passkeys(text: str, name: str, tokenizer: Tokenizer) -> list[Trial]:
    """A trial for each line, whose number is its seed; ``name`` is what errors call the file.

    A line has ``input``, the prompt without its question, ``target``, the key, and
    ``passkey_position``, where it stands in characters. The question is LongLM's. Raises
    OptionError with the line for a text of another form.
    """
    trials = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            example = json.loads(line)
            prompt, target = example["input"], str(example["target"])
            at = int(example.get("passkey_position", prompt.find(target)))
            if not isinstance(prompt, str):
                raise TypeError
        except (
            ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError,
        ) as error:  # fmt: skip
            raise OptionError(
                f"{name}: line {number} is not a pass-key example",
                hint='a line is a JSON object with "input" and "target"',
            ) from error
        if not (target.isascii() and target.isdecimal() and len(target) <= _MOST_DIGITS):
            raise OptionError(
                f"{name}: line {number}: the target {target[:40]!r} is not a key",
                hint=f"a key is a number of at most {_MOST_DIGITS} digits",
            )
        trials.append(_trial(number, prompt, target, at, tokenizer))
    if not trials:
        raise OptionError(f"{name} has no examples")
    return trials


def _trial(number: int, prompt: str, target: str, at: int, tokenizer: Tokenizer) -> Trial:
    keys = different_keys(np.random.default_rng(number), len(target), 1 + WRONG)
    others = [key for key in keys if key != target][:WRONG]
    asked = tokenizer.encode(f"{prompt}{ASK_KEY}")
    texts = [tokenizer.encode(f"{prompt}{ASK_KEY} {key}") for key in (target, *others)]
    # Where a tokenizer joins the question's last letters with the answer, the answer begins there.
    same = min(_common(asked, whole) for whole in texts)
    right, *wrong = (tuple(whole[same:]) for whole in texts)
    depth = round(min(max(at / max(len(prompt), 1), 0.0), 1.0), 2)
    shared = tuple(texts[0][:same])
    return Trial("passkey", len(texts[0]), depth, number, shared, right, tuple(wrong))


def _common(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
