"""LongLM's pass-key prompts: its files of them (``passkey_examples.jsonl``), and more like these.

They differ from the haystacks of ``motet.evals.haystack`` by an instruction in front, by lines
that stay whole, and by the question, which follows the last full stop without a space.
"""

import json
import zlib

import numpy as np

from motet.errors import OptionError
from motet.evals.haystack import (
    ASK_KEY,
    FILLER,
    TELL_KEY,
    WRONG,
    Trial,
    different_keys,
    require_room,
)
from motet.tokenizer import Tokenizer

LONGLM = "longlm"
"""The task's name, where such prompts are made."""
INSTRUCTION = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it."
    " I will quiz you about the important information there.\n"
)
_MOST_DIGITS = 18
"""Of a key, so that it is a 64-bit number."""


def read_passkeys(text: str, name: str, tokenizer: Tokenizer) -> list[Trial]:
    """A trial for each line, whose number is its seed; ``name`` is what errors call the file.

    A line has ``input``, the prompt without its question, and ``target``, the key, which stands
    somewhere in it. (Its ``passkey_position`` is in tokens of another model, and not always where
    the key is.) The question is LongLM's. Raises OptionError with the line for a text of another
    form.
    """
    trials = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            example = json.loads(line)
            prompt, target = example["input"], str(example["target"])
            if not isinstance(prompt, str):
                raise TypeError
        except (
            ValueError, KeyError, TypeError, AttributeError, RecursionError,
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
        at = prompt.find(target)
        if at < 0:
            raise OptionError(
                f"{name}: line {number}: the key {target} is not in the input",
                hint='"input" is the text that tells the key, without the question',
            )
        prefix, answers = _asked(prompt, _keys(target, np.random.default_rng(number)), tokenizer)
        depth = round(at / len(prompt), 2)
        length = len(prefix) + len(answers[0])
        trials.append(Trial("passkey", length, depth, number, prefix, answers[0], answers[1:]))
    if not trials:
        raise OptionError(f"{name} has no examples")
    return trials


class Passkeys:
    """Makes prompts in the form of LongLM's; length, depth and seed determine one."""

    def __init__(self, tokenizer: Tokenizer, digits: int = 5) -> None:
        """``digits`` of a key."""
        self._tokenizer = tokenizer
        self._digits = digits

    def make(self, length: int, depth: float, seed: int) -> Trial:
        """A trial with as many lines of filler as ``length`` tokens have room for.

        The key's own line comes after the share ``depth`` of them, and all lines are whole, so that
        prompt and answer may take somewhat less than ``length``, which is the trial's all the same.
        Raises OptionError if ``length`` tokens do not suffice.
        """
        rng = np.random.default_rng(zlib.crc32(f"{LONGLM} {length} {depth:.6f} {seed}".encode()))
        (key,) = different_keys(rng, self._digits, 1)
        keys = _keys(key, rng)

        def made(count: int) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
            before = round(count * depth)
            told = f"{TELL_KEY.format(key=key)}\n"
            text = f"{INSTRUCTION}{FILLER * before}{told}{FILLER * (count - before)}"
            return _asked(text.removesuffix("\n"), keys, self._tokenizer)

        def size(count: int) -> int:
            prefix, answers = made(count)
            return len(prefix) + len(answers[0])

        least = size(1)
        require_room(length, least)
        count = 1 + (length - least) // (size(2) - least)
        while size(count) > length:
            count -= 1
        prefix, answers = made(count)
        return Trial(LONGLM, length, depth, seed, prefix, answers[0], answers[1:])


def _keys(key: str, rng: np.random.Generator) -> list[str]:
    """The key, and wrong ones of as many digits."""
    others = different_keys(rng, len(key), 1 + WRONG)
    return [key, *[other for other in others if other != key][:WRONG]]


def _asked(
    prompt: str, keys: list[str], tokenizer: Tokenizer
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The tokens of a prompt and its question, and of each answer."""
    asked = tokenizer.encode(f"{prompt}{ASK_KEY}")
    texts = [tokenizer.encode(f"{prompt}{ASK_KEY} {key}") for key in keys]
    # Where a tokenizer joins the question's last letters with the answer, the answer begins there.
    same = min(_common(asked, whole) for whole in texts)
    return tuple(texts[0][:same]), tuple(tuple(whole[same:]) for whole in texts)


def _common(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
