"""The patterns that models publish, matched by the ``regex`` library: how text is cut.

``python -m tests.tokenizer.published_patterns --count 10000`` compares so many random texts.
"""

import argparse
import unicodedata
from collections.abc import Iterable

import numpy as np
import regex

from motet.tokenizer.pretokenizers import pre_tokenizer
from tests.tokenizer.texts import random_text

_ENGLISH = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_FIRST = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_ENGLISH}|{_FIRST}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_O200K = (
    rf"{_FIRST}[{_UPPER}]*[{_LOWER}]+{_ENGLISH}?|{_FIRST}[{_UPPER}]+[{_LOWER}]*{_ENGLISH}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_NOT_HAN = r"&&[^\p{Han}]"
PATTERNS = {
    "gpt-2": _GPT2,
    "olmo": _GPT2,
    "llama-bpe": _LLAMA3,
    "smaug-bpe": _LLAMA3,  # SmolLM3
    "dbrx": _LLAMA3,  # Granite 4, OLMo 2, Phi 4
    "falcon-h1": _LLAMA3,
    "lfm2": _LLAMA3,
    "pixtral": _LLAMA3,  # Nemotron-H
    "glm4": _LLAMA3,
    "chatglm-bpe": _LLAMA3,
    "qwen2": _LLAMA3.replace("{1,3}", ""),
    "qwen35": rf"{_ENGLISH}|{_FIRST}[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",
    "tekken": _O200K.replace(_ENGLISH + "?", "").replace("{1,3}", ""),  # Ministral 3
    "gpt-4o": _O200K,  # Phi 4 mini, gpt-oss
    "kimi-k2": rf"[\p{{Han}}]+|{_FIRST}[{_UPPER}{_NOT_HAN}]*[{_LOWER}{_NOT_HAN}]+{_ENGLISH}?"
    rf"|{_FIRST}[{_UPPER}{_NOT_HAN}]+[{_LOWER}{_NOT_HAN}]*{_ENGLISH}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
}
"""By the name that llama.cpp's converter gives."""


def differing(name: str, seeds: Iterable[int]) -> list[str]:
    """Texts that Motet cuts otherwise than the pattern says."""
    from tokenizers import pre_tokenizers

    ours = pre_tokenizers.Sequence(pre_tokenizer(name, None).steps())
    theirs = regex.compile(PATTERNS[name], regex.V1)
    found = []
    for seed in seeds:
        # Libraries differ in how new a Unicode they know.
        drawn = random_text(np.random.default_rng(seed))
        text = "".join(char for char in drawn if unicodedata.category(char) != "Cn")
        cut = [text[start:end] for _, (start, end) in ours.pre_tokenize_str(text)]
        if cut != theirs.findall(text):
            found.append(text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count
    for name in PATTERNS:
        found = differing(name, range(count))
        print(f"{name}: {len(found)} of {count} differ", *map(ascii, found[:3]), sep="\n  ")


if __name__ == "__main__":
    main()
