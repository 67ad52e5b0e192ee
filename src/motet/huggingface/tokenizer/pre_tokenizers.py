"""Which of the known pre-tokenizers a ``tokenizer.json`` describes, found by what it does."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from motet.errors import UnsupportedError
from motet.tokenizer.pretokenizers import BY_NAME, GPT2, PreTokenizer

_USUAL = ("llama-bpe", "qwen2", "olmo", "gpt-4o")
"""Of names that mean the same, those that llama.cpp's converter gives to the best known models."""
_BY_ARCHITECTURE = {"starcoder2": "starcoder", "smollm3": "smollm"}
"""Where neither the architecture's own name nor a usual one is meant."""
_SAME = (
    ("\r", r"\r"),
    ("\n", r"\n"),
    ("'(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
    ("'(?:[sdmt]|ll|ve|re)", "'s|'t|'re|'ve|'m|'ll|'d"),
    (r"(?<!\s)\s++$", r"\s+$"),
    (r"\p{N}{1}", r"\p{N}"),
    (r"\p{L}\p{N}]?+\p{L}", r"\p{L}\p{N}]?\p{L}"),  # what may stand before a letter is none
    (r"\p{L}\p{N}]++[\r\n]", r"\p{L}\p{N}]+[\r\n]"),
    (r"|\s*[\r\n]|", r"|\s*[\r\n]+|"),  # \s takes line ends too: both end at the last one
)
"""Spellings that match the same text."""
_EVERYTHING = r"|\s+(?!\S)|\s+"
"""How patterns end that leave nothing between their matches."""
_NUMERALS = r"\p{N}", r"\p{N}+"
_WRONG = "without it the text would be cut into the wrong tokens"


def described(normalizer: Any, pre_tokenizer: Any, where: str) -> PreTokenizer:
    """What the two parts of a ``tokenizer.json`` do, for byte-level BPE.

    Raises UnsupportedError for a step that no known pre-tokenizer has.
    """
    nfc = False
    for step in steps(normalizer, "normalizers"):
        if step.get("type") != "NFC":
            raise _unknown(where, "the normalizer", step)
        nfc = True
    punctuation = spelt = False
    cuts: tuple[list[str], list[str]] = ([], [])
    for step in steps(pre_tokenizer, "pretokenizers"):
        match step:
            case {"type": "ByteLevel", "add_prefix_space": False} if not spelt:
                cuts[0].extend([GPT2] if step.get("use_regex", True) else [])
                spelt = True
            case {"type": "Split", "pattern": {"Regex": str(pattern)}} if _isolates(step):
                cuts[spelt].append(pattern)
            case {"type": "Digits", "individual_digits": bool(alone)}:
                cuts[spelt].append(_NUMERALS[not alone])
            case {"type": "Punctuation", "behavior": "Contiguous"} if not (spelt or cuts[0]):
                punctuation = True
            case _:
                raise _unknown(where, "the pre-tokenizer", step)
    if not spelt:
        raise _unknown(where, "the pre-tokenizer without ByteLevel", pre_tokenizer)
    return PreTokenizer(tuple(cuts[0]), punctuation, tuple(cuts[1]), nfc)


def name_of(
    does: PreTokenizer,
    architecture: str,
    where: str,
    numerals_stay_apart: Callable[[], bool],
    merges_reach_all: Callable[[], bool],
) -> str:
    """The name of the known pre-tokenizer that does the same.

    ``numerals_stay_apart``: says that no merge joins two numerals, so that it makes no difference
    whether they are cut. ``merges_reach_all``: that every token is what its own text is merged
    into, so that it makes none whether merges are ignored. Both are asked only where it matters.

    Of several names, the architecture's own, or the one that llama.cpp's converter usually gives.
    Raises UnsupportedError, showing the patterns, if there is none.
    """
    names = _matching(does, lambda known: known)
    if not names and (alike := _matching(does, _any_numerals)) and numerals_stay_apart():
        names = alike
    if not names and (alike := _matching(does, _any_merges)) and merges_reach_all():
        names = alike
    if not names:
        patterns = [*does.patterns, *does.spelt_patterns]
        raise UnsupportedError(
            f"{where}: no known pre-tokenizer cuts text as this one does: patterns "
            f"{json.dumps(patterns, ensure_ascii=False)}, NFC {does.nfc}, "
            f"ignore_merges {does.ignore_merges}",
            hint=_WRONG,
        )
    preferred = (architecture, _BY_ARCHITECTURE.get(architecture), *_USUAL)
    return next((name for name in preferred if name in names), names[0])


def steps(part: Any, several: str) -> Iterable[Mapping[str, Any]]:
    """The steps of a part of ``tokenizer.json``, sequences (under the key ``several``) opened."""
    pending = [part]
    while pending:
        step = pending.pop()
        if isinstance(step, dict) and step.get("type") == "Sequence":
            inner = step.get(several)
            pending += reversed(inner) if isinstance(inner, list) else [inner]
        elif step is not None:
            yield step if isinstance(step, dict) else {"type": step}


def _isolates(step: Mapping[str, Any]) -> bool:
    """Whether matches, and what is between them, become pieces of their own."""
    inverted = bool(step.get("invert", False))
    if step.get("behavior") == "Removed" and inverted:  # keeps the matches
        return step["pattern"]["Regex"].endswith(_EVERYTHING)
    return step.get("behavior") == "Isolated" and not inverted


def _matching(does: PreTokenizer, leaves_out: Callable[[PreTokenizer], PreTokenizer]) -> list[str]:
    """Names of those that are the same, but for spellings and what ``leaves_out`` leaves out."""
    wanted = leaves_out(_canonical(does))
    return [name for name, known in BY_NAME.items() if leaves_out(_canonical(known)) == wanted]


def _canonical(known: PreTokenizer) -> PreTokenizer:
    def spelling(pattern: str) -> str:
        for one, other in _SAME:
            pattern = pattern.replace(one, other)
        return pattern

    return _respelt(replace(known, add_bos=False), spelling)


def _any_numerals(known: PreTokenizer) -> PreTokenizer:
    return _respelt(known, lambda pattern: _NUMERALS[0] if pattern == _NUMERALS[1] else pattern)


def _any_merges(known: PreTokenizer) -> PreTokenizer:
    return replace(known, ignore_merges=False)


def _respelt(known: PreTokenizer, spelling: Callable[[str], str]) -> PreTokenizer:
    cuts, spelt = tuple(map(spelling, known.patterns)), tuple(map(spelling, known.spelt_patterns))
    return replace(known, patterns=cuts, spelt_patterns=spelt)


def _unknown(where: str, what: str, step: Any) -> UnsupportedError:
    text = json.dumps(step, ensure_ascii=False)
    return UnsupportedError(
        f"{where}: {what} {text[:300]} is not supported for byte-level BPE",
        hint=_WRONG,
    )
