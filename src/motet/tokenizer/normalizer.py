"""SentencePiece's normalisation of text: characters replaced by a table, spaces tidied.

https://github.com/google/sentencepiece, ``normalizer.cc``. The table is a size, a double array
(darts-clone) of the spellings that are replaced, and what they become, each ended by a zero byte.
"""

from collections.abc import Callable

import numpy as np

from motet.tokenizer.metadata import VocabularyKeys
from motet.tokenizer.protobuf import message

_CHARSMAP = "tokenizer.ggml.precompiled_charsmap"
_TIDY = "tokenizer.ggml.remove_extra_whitespaces"
_BLOCK = 256
"""Units of a double array's block: a step, xor with a byte, never leaves it."""
_LONGEST = 256
"""Bytes that one spelling may become; the longest in use is 33 (U+FDFA under NFKC)."""
_VALUE = np.uint32(0x7FFFFFFF)


def read_normalizer(keys: VocabularyKeys, tidies: bool) -> Callable[[str], str | None] | None:
    """What the file asks to be done to text before it is cut; None if that is nothing.

    ``tidies``: whether spaces are tidied, where the file does not say. Spaces come back as U+2581;
    None comes back where they are tidied and nothing else is left.
    Raises TokenizerError for a table that is damaged.
    """
    charsmap = keys.octets(_CHARSMAP) if keys.has(_CHARSMAP) else b""
    tidies = keys.flag(_TIDY, tidies)
    if charsmap:
        _check(keys, charsmap)
    elif not tidies:
        return None
    from sentencepiece import SentencePieceNormalizer

    model = message(3, message(1, b"file") + message(2, charsmap))  # normalizer_spec: name, table
    try:
        normalize = SentencePieceNormalizer(
            model_proto=model,
            add_dummy_prefix=False,  # the codec does it
            escape_whitespaces=True,
            remove_extra_whitespaces=tidies,
        ).normalize
    except RuntimeError:
        raise keys.error(_CHARSMAP, "is a table that SentencePiece refuses") from None
    return (lambda text: normalize(text) or None) if tidies else normalize


def _check(keys: VocabularyKeys, charsmap: bytes) -> None:
    """The library follows the table wherever it leads: no step may lead out of it."""
    size = int.from_bytes(charsmap[:4], "little")
    if size % (4 * _BLOCK) or not size or size + 4 >= len(charsmap):
        raise keys.error(_CHARSMAP, f"has {len(charsmap)} bytes, of which {size} are to be a trie")
    units = np.frombuffer(charsmap, "<u4", size // 4, offset=4)
    texts = np.frombuffer(charsmap, np.uint8, offset=4 + size)
    inner = units >> 31 == 0  # the others hold a value, and no byte leads to them
    inner[0] = True
    step = units >> 10 << ((units & 1 << 9) >> 6)
    following = np.arange(len(units), dtype=np.uint32) ^ step
    if (following[inner] >= len(units)).any():
        raise keys.error(_CHARSMAP, "has a step that leads out of its trie")
    ends = inner & (units >> 8 & 1 == 1)
    values = units[following[ends]] & _VALUE
    _check_texts(keys, texts, values)


def _check_texts(keys: VocabularyKeys, texts: np.ndarray, values: np.ndarray) -> None:
    """``texts``: uint8, what spellings become; ``values``: the places where those begin."""
    try:
        texts.tobytes().decode()
    except UnicodeDecodeError:
        raise keys.error(_CHARSMAP, "replaces by what is not UTF-8") from None
    if texts[-1] != 0 or (values >= len(texts)).any():
        raise keys.error(_CHARSMAP, "has a replacement that goes on beyond its end")
    if (texts[values] & 0xC0 == 0x80).any():
        raise keys.error(_CHARSMAP, "has a replacement that begins within a character")
    stops = np.flatnonzero(texts == 0)
    sizes = stops[np.searchsorted(stops, values)] - values
    if sizes.max(initial=0) > _LONGEST:
        raise keys.error(
            _CHARSMAP, f"replaces by {sizes.max()} bytes; at most {_LONGEST} are accepted"
        )
