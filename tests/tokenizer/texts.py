"""Random texts of many kinds, for comparing tokenizers and for attacking them."""

import sys
import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np

_WORDS = (
    "the and of to in that it's they're WE'LL I'm you've she'd don't HTML camelCase snake_case "
    "naïve Straße größer Ελλάδα Москва שלום مرحبا नमस्ते ไทย 日本語 中文字 한국어 ｆｕｌｌ ﬁne "
    "http://a.b/c?d=e&f x=1; {} [] () <tag> </s> ... !!! -- === /* */ // # $x @y a+b \\n"
)
_SPACES = " \t\n\r\x0b\x0c\u0085\u00a0\u1680\u2003\u2028\u2029\u202f\u3000\u200b\ufeff"
_DIGITS = "0123456789²½٣৪５Ⅷ"
_EMOJI = "🦙 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 1️⃣ ❤️ ☺"
_ODD = "\0\x01\x03\x0b\x1c\x1f\x7f\x80\xad\u0300\u0301\u0323\u202e\ue000\ufffd\uffff▁Ġ\U000e0041"
_CATEGORIES = sorted({unicodedata.category(chr(point)) for point in range(0x3000)} - {"Cs"})


def random_text(
    random: np.random.Generator, spellings: Sequence[str] = (), pieces: int = 12
) -> str:
    """Up to ``pieces`` pieces of different kinds; ``spellings`` (of special tokens) are one."""
    return "".join(_piece(random, spellings) for _ in range(int(random.integers(1, pieces + 1))))


def _piece(random: np.random.Generator, spellings: Sequence[str]) -> str:
    kind = int(random.integers(11 if spellings else 9))
    if kind == 0:
        return _some(random, _SPACES[:4] if random.random() < 0.7 else _SPACES, 5)
    if kind == 1:
        return _some(random, _DIGITS[:10] if random.random() < 0.7 else _DIGITS, 7)
    if kind == 2:
        return _some(random, _EMOJI.split(), 2)
    if kind == 3:
        return _some(random, _ODD, 2)
    if kind == 4:
        category = _CATEGORIES[int(random.integers(len(_CATEGORIES)))]
        return _some(random, _of_category()[category], 3)
    if kind == 5:
        return "".join(map(chr, _points(random, 3)))
    if kind == 6:
        return _some(random, "aeiou\u0300\u0308ñé가각ㄱ", 6)
    if kind in (7, 8):
        return " " * int(random.integers(2)) + _some(random, _WORDS.split(), 1)
    gap = _some(random, _SPACES, 2) if random.random() < 0.5 else ""
    return spellings[int(random.integers(len(spellings)))] + gap


def _some(random: np.random.Generator, choices: Sequence[str], most: int) -> str:
    count = int(random.integers(1, most + 1))
    return "".join(choices[int(index)] for index in random.integers(len(choices), size=count))


def _points(random: np.random.Generator, most: int) -> list[int]:
    """Code points from all planes, no surrogates."""
    planes = [0x80, 0x800, 0xD800, 0x10000, 0x30000, sys.maxunicode + 1]
    ends = random.choice(planes, size=int(random.integers(1, most + 1)))
    return [point for end in ends if not 0xD800 <= (point := int(random.integers(end))) < 0xE000]


@cache
def _of_category() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {category: [] for category in _CATEGORIES}
    for point in range(0x20000):
        category = unicodedata.category(chr(point))
        if category in found and len(found[category]) < 4000:
            found[category].append(chr(point))
    return found
