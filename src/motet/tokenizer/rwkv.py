"""RWKV's World vocabulary (``tokenizer.ggml.model`` = "rwkv"): the longest token that fits, always.

https://github.com/BlinkDL/ChatRWKV, ``tokenizer/rwkv_tokenizer.py``. Tokens are bytes, whole
characters or not; the file spells them as Python does between the quotes of a bytes literal.
"""

import re

from motet.errors import TokenizerError
from motet.tokenizer.longest import LONGEST, LongestMatch
from motet.tokenizer.types import TokenType
from motet.tokenizer.vocabulary import TOKENS, Vocabulary

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|[tnr\\'\"])?")
_NO_TOKEN = -1  # as LongestMatch says it
_NAMED = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}


class LongestMatchCodec:
    """Text without special tokens to ids, and ids to bytes."""

    adds_space = False

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Raises TokenizerError for a token that is very long.

        Text is cut into normal tokens alone: the others stand for no text.
        """
        self._pieces = [text.encode("utf-8", "surrogateescape") for text in vocabulary.texts]
        normal = vocabulary.of_type(TokenType.NORMAL)
        long = next((token for token in normal if len(self._pieces[token]) > LONGEST), None)
        if long is not None:
            raise TokenizerError(
                f"metadata key {TOKENS!r} has a token of {len(self._pieces[long])} bytes at index "
                f"{long}; at most {LONGEST} are read"
            )
        self._tokens = LongestMatch((self._pieces[token], token) for token in normal)
        self._unknown = [] if vocabulary.special.unk is None else [vocabulary.special.unk]

    def encode(self, text: str, starts: bool) -> list[int]:
        """``starts`` makes no difference here. A byte that no token begins at is unknown."""
        ids = self._cut(text.encode())
        if _NO_TOKEN not in ids:
            return ids
        return [known for token in ids for known in ([token] if token >= 0 else self._unknown)]

    def unspelt(self, text: str) -> tuple[int, str] | None:
        spelt = text.encode()
        ids = self._cut(spelt)
        if _NO_TOKEN not in ids:
            return None
        known = ids[: ids.index(_NO_TOKEN)]
        size = sum(len(self._pieces[token]) for token in known)
        place = len(spelt[:size].decode("utf-8", "ignore"))
        return place, text[place]

    def _cut(self, text: bytes) -> list[int]:
        """The ids of the tokens of ``text``; _NO_TOKEN for a byte at which none fits."""
        find = self._tokens.find
        ids = []
        place = 0
        while place < len(text):
            token, size = find(text, place)
            ids.append(token)
            place += size or 1
        return ids

    def piece(self, token: int) -> bytes:
        return self._pieces[token]


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
