"""What each token of a vocabulary is."""

import re
from enum import IntEnum

import numpy as np

from motet.tokenizer.metadata import SPECIAL_NAMES, VocabularyKeys

_TYPES = "tokenizer.ggml.token_type"
BYTE_TEXTS = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""How byte tokens are spelt."""


class TokenType(IntEnum):
    """``tokenizer.ggml.token_type``; the numbers are those of SentencePiece's ModelProto."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


SPECIAL_TYPES = TokenType.UNKNOWN, TokenType.CONTROL, TokenType.USER_DEFINED
"""Tokens that are found in a text by their spelling, control and unknown ones on demand."""
SILENT_TYPES = TokenType.UNKNOWN, TokenType.CONTROL, TokenType.UNUSED
"""Tokens that stand for no text."""
_UNDEFINED = 0
"""What a converter writes that leaves a token's type open."""
_LOOKS_SPECIAL = re.compile(r"<.*>|\[.*\]", re.DOTALL)


def read_types(
    keys: VocabularyKeys,
    texts: list[str],
    ids: dict[str, int],
    defaults: dict[str, int],
    spelt_bytes: bool,
) -> bytearray:
    """A TokenType for each of ``texts``; the rest as for ``read_vocabulary``."""
    types = _types(keys, texts) if keys.has(_TYPES) else _guessed(keys, texts, ids, defaults)
    for spelling in BYTE_TEXTS if spelt_bytes else ():
        if spelling in ids:
            types[ids[spelling]] = TokenType.BYTE
    return types


def _types(keys: VocabularyKeys, texts: list[str]) -> bytearray:
    types = keys.numbers(_TYPES, np.int64, len(texts))
    wrong = np.flatnonzero((types < _UNDEFINED) | (types > max(TokenType)))
    if wrong.size:
        index = int(wrong[0])
        raise keys.error(_TYPES, f"is {types[index]} at index {index}, must be 0 to 6")
    types[types == _UNDEFINED] = TokenType.NORMAL
    spellings = set(BYTE_TEXTS)
    for index in np.flatnonzero(types == TokenType.BYTE).tolist():
        if texts[index] not in spellings:
            problem = f"says that token {index}, {texts[index][:20]!r}, is a byte, such as <0x0A>"
            raise keys.error(_TYPES, problem)
    return bytearray(types.astype(np.uint8).tobytes())


def _guessed(
    keys: VocabularyKeys, texts: list[str], ids: dict[str, int], defaults: dict[str, int]
) -> bytearray:
    """Where the file has none: normal, but for tokens with a part to play that look it."""
    types = bytearray([TokenType.NORMAL]) * len(texts)
    parts = [keys.special_id(name, len(texts)) for name in SPECIAL_NAMES]
    for index in (*parts, *defaults.values()):
        if index is not None and index < len(texts) and _LOOKS_SPECIAL.fullmatch(texts[index]):
            types[index] = TokenType.CONTROL
    if "<unk>" in ids:
        types[ids["<unk>"]] = TokenType.UNKNOWN
    return types
