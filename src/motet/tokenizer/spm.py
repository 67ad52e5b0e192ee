"""SentencePiece vocabularies (``tokenizer.ggml.model`` = "llama"): BPE by scores.

The vocabulary is written as the ModelProto that SentencePiece would have stored, and read by the
library itself (https://github.com/google/sentencepiece, ``sentencepiece_model.proto``).
"""

from collections.abc import Iterator

import numpy as np

from motet.errors import TokenizerError, UnsupportedError
from motet.tokenizer.metadata import VocabularyKeys
from motet.tokenizer.vocabulary import TOKENS, TokenType, Vocabulary

SPACE = "▁"
"""What stands for a space in the vocabulary (U+2581)."""
_SCORES = "tokenizer.ggml.scores"
_BYTES = 256
_SHORT = 119
"""Bytes from which a token's message may be too long for lengths of one byte."""


class SentencePieceCodec:
    """Text without special tokens to ids, and ids to bytes."""

    def __init__(self, vocabulary: Vocabulary, scores: np.ndarray, add_space_prefix: bool) -> None:
        """``scores``: float32 [n_vocab], higher merges first."""
        from sentencepiece import SentencePieceProcessor

        self._vocabulary = vocabulary
        self._prefix = " " if add_space_prefix else ""
        self._processor = SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(_model_proto(vocabulary, scores))
        except RuntimeError as error:
            reason = str(error).encode("unicode_escape").decode()
            raise TokenizerError(
                f"metadata key {TOKENS!r}: SentencePiece cannot use the vocabulary: {reason[:200]}"
            ) from error

    def encode(self, text: str, starts: bool) -> list[int]:
        """``starts``: the text stands at the beginning, or right after a special token."""
        ids = self._processor.encode(self._prefix + text if starts else text)
        if len(self._vocabulary.texts) in ids:
            raise TokenizerError(
                "the vocabulary has neither byte tokens nor an unknown token for some of the "
                f"characters in {text[:40]!r}"
            )
        return ids

    def piece(self, token: int) -> bytes:
        return unescaped_piece(self._vocabulary, token)

    @property
    def adds_space(self) -> bool:
        """Whether ``encode`` puts a space before text that starts."""
        return bool(self._prefix)


def read_sentencepiece(keys: VocabularyKeys, vocabulary: Vocabulary) -> SentencePieceCodec:
    """The codec that the remaining keys describe."""
    for key in ("tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.precompiled_charsmap"):
        if keys.has(key) and (key.endswith("charsmap") or keys.flag(key, False)):
            raise UnsupportedError(
                f"metadata key {key!r}: text normalisation is not supported for this vocabulary"
            )
    scores = keys.numbers(_SCORES, np.float32, len(vocabulary.texts))
    if not np.isfinite(scores).all():
        index = int(np.isfinite(scores).argmin())
        raise keys.error(_SCORES, f"is {scores[index]} at index {index}, must be finite")
    add_space_prefix = keys.flag("tokenizer.ggml.add_space_prefix", True)
    return SentencePieceCodec(vocabulary, scores, add_space_prefix)


def unescaped_piece(vocabulary: Vocabulary, token: int) -> bytes:
    """The bytes of a token of a vocabulary that spells spaces as ``SPACE``."""
    text = vocabulary.texts[token]
    kind = vocabulary.types[token]
    if kind == TokenType.BYTE:
        return bytes((int(text[3:5], 16),))
    if kind not in (TokenType.CONTROL, TokenType.UNKNOWN):
        text = text.replace(SPACE, " ")
    return text.encode("utf-8", "surrogateescape")


def check_byte_tokens(vocabulary: Vocabulary) -> bool:
    """Whether there are byte tokens, <0x00> to <0xFF>; TokenizerError if there are only some."""
    count = len(vocabulary.of_type(TokenType.BYTE))
    if count not in (0, _BYTES):
        raise TokenizerError(
            f"metadata key {TOKENS!r} has {count} of the {_BYTES} byte tokens, <0x00> to <0xFF>"
        )
    return count > 0


def _model_proto(vocabulary: Vocabulary, scores: np.ndarray) -> bytes:
    """A ModelProto in protobuf's wire format: pieces, trainer_spec, normalizer_spec."""
    # model_type BPE, byte_fallback
    trainer = _field(3, 2) + _field(35, int(check_byte_tokens(vocabulary)))
    # No dummy prefix (the codec adds its own), keep extra spaces, spell spaces as SPACE.
    normalizer = _message(1, b"identity") + _field(3, 0) + _field(4, 0) + _field(5, 1)
    parts = [*_pieces(vocabulary, scores), _message(2, trainer), _message(3, normalizer)]
    return b"".join(parts)


def _pieces(vocabulary: Vocabulary, scores: np.ndarray) -> Iterator[bytes]:
    """Field 1, once a token: piece (1), score (2), type (3); one more if none is unknown."""
    kinds = _proto_types(vocabulary)
    packed = scores.astype("<f4").tobytes()
    for index, text in enumerate(vocabulary.texts):
        spelt = text.encode("utf-8", "surrogateescape")
        size, score, kind = len(spelt), packed[4 * index : 4 * index + 4], kinds[index]
        if size < _SHORT:  # the same as below in one step: a large vocabulary has 262,144
            yield b"\n%c\n%c%b\x15%b\x18%c" % (size + 9, size, spelt, score, kind)
        else:
            yield _message(1, _message(1, spelt) + b"\x15" + score + _field(3, kind))
    if TokenType.UNKNOWN not in kinds:
        spare = _message(1, _unused_text(vocabulary).encode())
        yield _message(1, spare + _field(3, TokenType.UNKNOWN))


def _proto_types(vocabulary: Vocabulary) -> bytearray:
    """The types as SentencePiece takes them: one unknown token, and none matched with spaces.

    Converters mark the unknown token as control. Tokens that hold real spaces never meet the
    library, which sees spaces escaped: they are split off before.
    """
    kinds = bytearray(vocabulary.types)
    for token in vocabulary.of_type(TokenType.UNKNOWN):
        kinds[token] = TokenType.CONTROL
    if vocabulary.special.unk is not None:
        kinds[vocabulary.special.unk] = TokenType.UNKNOWN
    for token in vocabulary.of_type(TokenType.USER_DEFINED):
        if " " in vocabulary.texts[token]:
            kinds[token] = TokenType.NORMAL
    return kinds


def _unused_text(vocabulary: Vocabulary) -> str:
    text = "<unk>"
    while text in vocabulary.ids:
        text += ">"
    return text


def _varint(value: int) -> bytes:
    """Base 128, lowest group first."""
    groups = bytearray()
    while value >= 128:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content
