"""RWKV's World vocabulary (``tokenizer.ggml.model`` = "rwkv"): the longest token that fits, always.

https://github.com/BlinkDL/ChatRWKV, ``tokenizer/rwkv_tokenizer.py``. Tokens are bytes, whole
characters or not; the file spells them as Python does between the quotes of a bytes literal.
"""

import re
from collections.abc import Iterable

from motet.errors import TokenizerError
from motet.tokenizer.vocabulary import TOKENS, TokenType, Vocabulary

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|[tnr\\'\"])?")
_NAMED = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}
_LONGEST = 1 << 10
"""Bytes of a token; the longest in use has 128."""
_NOTHING = -1, 0


class LongestMatchCodec:
    """Text without special tokens to ids, and ids to bytes."""

    adds_space = False

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Raises TokenizerError for a token that is very long.

        Text is cut into normal tokens alone: the others stand for no text.
        """
        self._pieces = [text.encode("utf-8", "surrogateescape") for text in vocabulary.texts]
        normal = vocabulary.of_type(TokenType.NORMAL)
        long = next((token for token in normal if len(self._pieces[token]) > _LONGEST), None)
        if long is not None:
            raise TokenizerError(
                f"metadata key {TOKENS!r} has a token of {len(self._pieces[long])} bytes at index "
                f"{long}; at most {_LONGEST} are read"
            )
        self._tokens = LongestMatch((self._pieces[token], token) for token in normal)

    def encode(self, text: str, starts: bool) -> list[int]:
        """``starts`` makes no difference here."""
        return self._tokens.cut(text.encode())

    def piece(self, token: int) -> bytes:
        return self._pieces[token]


class LongestMatch:
    """Finds, at each place of a text, the longest of given tokens, in a few steps.

    The length is found bit by bit, highest first: a dictionary knows every token, and the first
    16, 24 and 26 bytes of one with 27, each with the longest token that it begins with (Waldvogel
    et al. 1997, Scalable High Speed IP Routing Lookups).
    """

    def __init__(self, tokens: Iterable[tuple[bytes, int]]) -> None:
        """``tokens``: (bytes, id), none empty, no bytes twice."""
        self._known: dict[bytes, tuple[int, int]] = {}
        self._steps = [0] * 256
        """By first byte, the highest bit of the longest token's length."""
        for token, index in sorted(tokens, key=lambda item: len(item[0])):
            size = len(token)
            self._steps[token[0]] = 1 << size.bit_length() - 1
            shorter = size & size - 1  # the lowest bit cleared
            while shorter:
                if (start := token[:shorter]) not in self._known:
                    self._known[start] = self._find(start, 0)
                shorter &= shorter - 1
            self._known[token] = index, size

    def cut(self, text: bytes) -> list[int]:
        """The ids of the tokens of ``text``. Raises TokenizerError where none fits."""
        ids = []
        place = 0
        while place < len(text):
            index, size = self._find(text, place)
            if not size:
                raise TokenizerError(
                    f"the vocabulary has no token for byte 0x{text[place]:02X}, "
                    "which the text holds"
                )
            ids.append(index)
            place += size
        return ids

    def _find(self, text: bytes, place: int) -> tuple[int, int]:
        """Id and size of the longest token at ``place``; the size is 0 if there is none."""
        known = self._known
        found = _NOTHING
        end = place
        step = self._steps[text[place]]
        while step:
            at = known.get(text[place : end + step])
            if at is not None:
                found = at
                end += step
            step >>= 1
        return found


def unescaped(text: str) -> str:
    """A token as the file spells it, to what it stands for, undecodable bytes as surrogates.

    Known escapes are \\t, \\n, \\r, \\\\, \\', \\" and \\xHH. Raises ValueError for others, and for
    an empty token, which would fit everywhere.
    """
    if not text:
        raise ValueError("a token without bytes")
    spelt = text.encode("utf-8", "surrogateescape")
    if b"\\" in spelt:
        spelt = _ESCAPE.sub(_meaning, spelt)
    return spelt.decode("utf-8", "surrogateescape")


def _meaning(escape: re.Match[bytes]) -> bytes:
    kind = escape[1]
    if kind is None:
        raise ValueError(f"a backslash that escapes nothing known, at byte {escape.start()}")
    return bytes((int(kind[1:], 16),)) if kind[0] == ord("x") else _NAMED.get(kind, kind)
