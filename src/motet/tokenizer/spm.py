"""SentencePiece vocabularies: BPE by scores (``tokenizer.ggml.model`` = "llama"), Unigram ("t5").

The vocabulary is written as the ModelProto that SentencePiece would have stored, and read by the
library itself (https://github.com/google/sentencepiece, ``sentencepiece_model.proto``).
"""

import re
from collections.abc import Callable
from enum import IntEnum

import numpy as np

from motet.errors import TokenizerError
from motet.tokenizer.metadata import VocabularyKeys
from motet.tokenizer.normalizer import read_normalizer
from motet.tokenizer.protobuf import field, message
from motet.tokenizer.split import parts
from motet.tokenizer.types import BYTE_TEXTS, TokenType
from motet.tokenizer.vocabulary import TOKENS, Vocabulary

SPACE = "▁"
"""What stands for a space in the vocabulary (U+2581)."""
_SCORES = "tokenizer.ggml.scores"
_WORD_STARTS = re.compile(rf"(?<=\w)(?=[ {SPACE}\n])")
_CROSSING = re.compile(rf"\w[ {SPACE}\n]")
_NOWHERE = re.compile(r"(?!)")
_BEFORE, _AFTER = 10, 7
"""Bytes of a token's message before its text, and after."""


class Algorithm(IntEnum):
    """How text is cut; the numbers are those of SentencePiece's TrainerSpec."""

    UNIGRAM = 1
    """The tokens whose scores have the greatest sum (Kudo 2018, Subword Regularization)."""
    BPE = 2


class SentencePieceCodec:
    """Text without special tokens to ids, and ids to bytes.

    Characters that have neither a token nor bytes are the unknown token, one where they are side
    by side, or left out if there is none.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        vocabulary: Vocabulary,
        scores: np.ndarray,
        add_space_prefix: bool,
        normalize: Callable[[str], str | None] | None,
    ) -> None:
        """``scores``: float32 [n_vocab], higher is better. ``normalize``: ``read_normalizer``'s."""
        from sentencepiece import SentencePieceProcessor

        self._vocabulary = vocabulary
        self._n_vocab = len(vocabulary.texts)
        self._missing = _missing_bytes(vocabulary)
        self._prefix = " " if add_space_prefix else ""
        self._normalize = normalize
        self._processor = SentencePieceProcessor()
        proto = _model_proto(algorithm, vocabulary, scores, self._missing)
        try:
            self._processor.LoadFromSerializedProto(proto)
        except RuntimeError as error:
            reason = str(error).encode("unicode_escape").decode()
            raise TokenizerError(
                f"metadata key {TOKENS!r}: SentencePiece cannot use the vocabulary: {reason[:200]}"
            ) from error

    def encode(self, text: str, starts: bool) -> list[int]:
        """``starts``: the text stands at the beginning, or right after a special token."""
        normal = self._normalize(text) if self._normalize else text
        if normal is None:
            return []
        ids: list[int] = []
        unknown = [self._vocabulary.special.unk]
        for part in parts(self._prefix + normal if starts else normal, self._cuts):
            found = self._processor.encode(part)
            if max(found, default=0) >= self._n_vocab:
                found = self._without_spares(found)
            ids += found[ids[-1:] == found[:1] == unknown :]  # unknown on both sides of the cut
        return ids

    def unspelt(self, text: str) -> tuple[int, str] | None:
        """As for every codec; the place counts characters as they are normalised."""
        if self._normalize:
            text = self._normalize(text) or ""
        if not self._lacks(text):  # a token may spell what its characters cannot alone
            return None
        lacking = filter(self._lacks, set(text))
        return min(((text.index(char), char) for char in lacking), default=None)

    def _lacks(self, text: str) -> bool:
        ids = self._processor.encode(text)
        return self._vocabulary.special.unk in ids or max(ids, default=0) >= self._n_vocab

    def _cuts(self) -> re.Pattern[str]:
        return word_starts(self._vocabulary)

    def _without_spares(self, ids: list[int]) -> list[int]:
        """``ids`` with characters unknown for which a byte, or the unknown token, is a spare one.

        Spare tokens have the ids from the vocabulary's end.
        """
        unk = self._vocabulary.special.unk
        kept: list[int] = []
        at = 0
        while at < len(ids):
            char = ids[at : at + self._bytes_from(ids[at])]
            if max(char) < self._n_vocab:
                kept += char
            elif unk is not None and kept[-1:] != [unk]:
                kept.append(unk)
            at += len(char)
        return kept

    def _bytes_from(self, token: int) -> int:
        """Ids of the character that begins with ``token``: as many as UTF-8 has bytes."""
        spare = token - self._n_vocab
        if spare < 0 and self._vocabulary.types[token] == TokenType.BYTE:
            byte = int(self._vocabulary.texts[token][3:5], 16)
        elif 0 <= spare < len(self._missing):
            byte = self._missing[spare]
        else:
            return 1
        return 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)

    def piece(self, token: int) -> bytes:
        return unescaped_piece(self._vocabulary, token)

    @property
    def adds_space(self) -> bool:
        """Whether ``encode`` puts a space before text that starts."""
        return bool(self._prefix)


def read_sentencepiece(
    keys: VocabularyKeys, vocabulary: Vocabulary, algorithm: Algorithm
) -> SentencePieceCodec:
    """The codec that the remaining keys describe."""
    n_vocab = len(vocabulary.texts)
    if algorithm == Algorithm.UNIGRAM or keys.has(_SCORES):
        scores = keys.numbers(_SCORES, np.float32, n_vocab)
    else:  # without them llama.cpp merges from left to right
        scores = np.zeros(n_vocab, "f4")
    if not np.isfinite(scores).all():
        index = int(np.isfinite(scores).argmin())
        raise keys.error(_SCORES, f"is {scores[index]} at index {index}, must be finite")
    add_space_prefix = keys.flag("tokenizer.ggml.add_space_prefix", True)
    normalize = read_normalizer(keys, tidies=algorithm == Algorithm.UNIGRAM)
    return SentencePieceCodec(algorithm, vocabulary, scores, add_space_prefix, normalize)


def unescaped_piece(vocabulary: Vocabulary, token: int) -> bytes:
    """The bytes of a token of a vocabulary that spells spaces as ``SPACE``."""
    text = vocabulary.texts[token]
    kind = vocabulary.types[token]
    if kind == TokenType.BYTE:
        return bytes((int(text[3:5], 16),))
    if kind not in (TokenType.CONTROL, TokenType.UNKNOWN):
        text = text.replace(SPACE, " ")
    return text.encode("utf-8", "surrogateescape")


def word_starts(vocabulary: Vocabulary) -> re.Pattern[str]:
    """Where a long text may be cut: after a word, before a space or a line's end.

    Nowhere if a token of ``vocabulary``, in which spaces are SPACE, reaches across such a place.
    """
    return _NOWHERE if _CROSSING.search("\0".join(vocabulary.texts)) else _WORD_STARTS


def _missing_bytes(vocabulary: Vocabulary) -> bytes:
    """Those without a token, if others have one; SentencePiece wants all or none."""
    known = {vocabulary.texts[token] for token in vocabulary.of_type(TokenType.BYTE)}
    return bytes(byte for byte, text in enumerate(BYTE_TEXTS) if known and text not in known)


def _model_proto(
    algorithm: Algorithm, vocabulary: Vocabulary, scores: np.ndarray, missing: bytes
) -> bytes:
    """A ModelProto in protobuf's wire format: pieces, trainer_spec, normalizer_spec.

    After the vocabulary's own pieces come spare ones: the ``missing`` bytes, and an unknown token
    if there is none.
    """
    kinds = _proto_types(vocabulary)
    pieces = [_pieces(vocabulary, scores, kinds)]
    pieces += [_spare(BYTE_TEXTS[byte], TokenType.BYTE) for byte in missing]
    if TokenType.UNKNOWN not in kinds:
        pieces.append(_spare(_unused_text(vocabulary), TokenType.UNKNOWN))
    # model_type, byte_fallback
    trainer = field(3, algorithm) + field(35, int(TokenType.BYTE in kinds))
    # No table, no dummy prefix (the codec has its own), keep extra spaces, spell spaces as SPACE.
    normalizer = message(1, b"identity") + field(3, 0) + field(4, 0) + field(5, 1)
    return b"".join([*pieces, message(2, trainer), message(3, normalizer)])


def _pieces(vocabulary: Vocabulary, scores: np.ndarray, kinds: bytearray) -> bytes:
    """Field 1, once a token: piece (1), score (2), type (3); of 262,144 tokens at once.

    Lengths are written in four bytes each, so that around every text there are as many.
    """
    texts = vocabulary.texts
    sizes, count = _sizes(texts), len(texts)
    around = np.empty((count, _BEFORE + _AFTER), np.uint8)
    around[:, 0] = around[:, 5] = 1 << 3 | 2
    around[:, 1:5] = _lengths(5 + sizes + _AFTER)
    around[:, 6:10] = _lengths(sizes)
    around[:, 10] = 2 << 3 | 5
    around[:, 11:15] = scores.astype("<f4").view(np.uint8).reshape(count, 4)
    around[:, 15] = 3 << 3
    around[:, 16] = np.frombuffer(kinds, np.uint8)
    spelt = np.frombuffer("".join(texts).encode("utf-8", "surrogateescape"), np.uint8)
    places = np.repeat(np.arange(count) * around.shape[1] + _BEFORE, sizes)
    places += np.arange(len(spelt))
    pieces = np.empty(around.size + len(spelt), np.uint8)
    is_around = np.ones(len(pieces), bool)
    is_around[places] = False
    pieces[places] = spelt
    pieces[is_around] = around.reshape(-1)
    return pieces.tobytes()


def _sizes(texts: list[str]) -> np.ndarray:
    """Bytes of each text."""
    joined = "\0".join(texts).encode("utf-8", "surrogateescape")
    between = np.flatnonzero(np.frombuffer(joined, np.uint8) == 0)
    if len(between) == len(texts) - 1:
        return np.diff(between, prepend=-1, append=len(joined)) - 1
    return np.array([len(text.encode("utf-8", "surrogateescape")) for text in texts])


def _lengths(values: np.ndarray) -> np.ndarray:
    """Each as a varint of four bytes, uint8 [n, 4]."""
    groups = values[:, None] >> np.arange(0, 28, 7) & 127
    groups[:, :3] |= 128
    return groups.astype(np.uint8)


def _spare(text: str, kind: TokenType) -> bytes:
    """A piece that the vocabulary does not have."""
    return message(1, message(1, text.encode()) + field(3, kind))


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
