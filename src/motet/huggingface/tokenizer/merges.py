"""The merges of a BPE vocabulary: read, and looked at for what they make of text."""

import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from motet.errors import TokenizerError, UnsupportedError, shown
from motet.tokenizer.bpe import BYTE_OF

_LONGEST, _MOST = 1 << 10, 1 << 23
"""Characters of a token, and of all together, whose parts are looked at; real ones: 2 million."""
_BATCH = 1 << 12
_CONTINUATION = bytes(range(0x80, 0xC0))
"""Bytes within a character, but its first."""
Merge = tuple[str, str]


def read_merges(entries: Any, vocab: Mapping[str, int], where: str) -> list[Merge]:
    """Pairs in order of rank, from strings with a space between, or from lists of two.

    Raises TokenizerError for what is no pair, or has a part or a whole that is no token;
    UnsupportedError for a pair with a space in it, which GGUF cannot say.
    """
    if not isinstance(entries, list):
        raise TokenizerError(f"{where} has merges {shown(entries)}, must be a list")
    merges: list[Merge] = []
    for index, entry in enumerate(entries):
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if not (isinstance(pair, list) and len(pair) == 2 and _known(pair, vocab)):
            raise TokenizerError(
                f"{where} has merge {index} {shown(entry)}, must be two tokens of the vocabulary"
            )
        merges.append((pair[0], pair[1]))
    for index, (left, right) in enumerate(merges):
        if left + right not in vocab:
            raise TokenizerError(
                f"{where} has merge {index} of {shown(left)} and {shown(right)}, "
                "but no token for both together"
            )
        if " " in left or " " in right:
            raise UnsupportedError(
                f"{where} has merge {index} of {shown(left)} and {shown(right)}, with a space in "
                "it, which is not supported"
            )
    return merges


def _known(pair: list[Any], vocab: Mapping[str, int]) -> bool:
    try:
        return pair[0] in vocab and pair[1] in vocab
    except TypeError:  # a list or an object
        return False


def numerals_stay_apart(merges: Sequence[Merge]) -> bool:
    """Whether no merge of a byte-level vocabulary joins bytes of two numerals."""
    numerals = [char.encode() for char in filter(_is_numeral, map(chr, range(sys.maxunicode + 1)))]
    ends = {char[cut:] for char in numerals for cut in range(1, len(char) + 1)}
    starts = {char[:cut] for char in numerals for cut in range(len(char))}
    for left, right in merges:
        spelt = bytes(BYTE_OF.get(char, ord(" ")) for char in left + right)
        rest = spelt.lstrip(_CONTINUATION)
        text = rest.decode("utf-8", "ignore")
        end, start = spelt[: len(spelt) - len(rest)], rest[len(text.encode()) :]
        several = bool(end) + len(text) + bool(start) > 1
        if several and end in ends and start in starts and all(map(_is_numeral, text)):
            return False
    return True


def _is_numeral(char: str) -> bool:
    return unicodedata.category(char)[0] == "N"


def merges_reach_all(
    vocab: Mapping[str, int], merges: Sequence[Merge], tokens: Mapping[str, int]
) -> bool:
    """Whether merging the text of each of ``tokens`` gives that token."""
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.BPE(dict(vocab), list(merges)))
    texts = list(tokens)
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        merged = tokenizer.encode_batch(batch, add_special_tokens=False)
        if any(done.ids != [tokens[text]] for text, done in zip(batch, merged, strict=True)):
            return False
    return True


def merge_scores(merges: Sequence[Merge]) -> dict[str, float]:
    """A score for each token that a merge makes: minus its place among these, by first rank."""
    made = dict.fromkeys(left + right for left, right in merges)
    return {text: -float(place) for place, text in enumerate(made)}


def differs_from_scores(merges: Sequence[Merge], pieces: set[str]) -> str:
    """How merging by rank differs from SentencePiece's merging by score; "" if it does not.

    SentencePiece joins any two neighbours that make a piece, the piece with the best score first;
    it does as the merges say if they have every pair that makes a piece, and all pairs of one piece
    before all of the next. ``pieces``: tokens of normal text.
    """
    last = ""
    done: set[str] = set()
    known = set(merges)
    for left, right in merges:
        made = left + right
        if made != last and made in done:
            return f"the merges of {shown(made)} are not side by side"
        done.add(last := made)
    longest, total = max(map(len, pieces), default=0), sum(map(len, pieces))
    if longest > _LONGEST or total > _MOST:
        return f"there are {total} characters of tokens, one with {longest}: too many to compare"
    for piece in pieces:
        for cut in range(1, len(piece)):
            pair = piece[:cut], piece[cut:]
            if pair not in known and pair[0] in pieces and pair[1] in pieces:
                return f"there is no merge of {shown(pair[0])} and {shown(pair[1])}"
    return ""
