"""A SentencePiece model file (``tokenizer.model``, ``spiece.model``), said in GGUF's keys.

https://github.com/google/sentencepiece, ``sentencepiece_model.proto``.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from motet.errors import TokenizerError, UnsupportedError, shown
from motet.huggingface.tokenizer.description import Draft
from motet.huggingface.tokenizer.token_table import TokenTable
from motet.tokenizer.protobuf import fields
from motet.tokenizer.spm import SPACE, Algorithm
from motet.tokenizer.types import TokenType
from motet.weights.gguf_metadata import MetadataValue

_KINDS = {Algorithm.UNIGRAM: "t5", Algorithm.BPE: "llama"}
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _TYPE = 1, 2, 3
_MODEL_TYPE, _SUFFIX, _BOS, _EOS = 3, 24, 41, 42
_CHARSMAP, _PREFIX, _TIDY, _ESCAPES = 2, 3, 4, 5
_NO_ID = 1 << 63
"""From here on a number is a negative one."""

Piece = tuple[str, float, int]
_FAIRSEQ = (
    ("<s>", 0.0, TokenType.CONTROL),
    ("<pad>", 0.0, TokenType.CONTROL),
    ("</s>", 0.0, TokenType.CONTROL),
    ("<unk>", 0.0, TokenType.UNKNOWN),
)
"""How XLM-RoBERTa's ids begin, where SentencePiece's begin with <unk>, <s>, </s>."""
_FAIRSEQ_SKIPS = 3
_FAIRSEQ_MASK = "<mask>"


@dataclass(frozen=True)
class SentencePieceModel:
    """``pieces``: text, score, TokenType. ``bos``, ``eos``: ids by default; None if there is none.

    ``charsmap``: the table by which characters are replaced. ``adds_space``: whether a space is put
    before text; ``tidies``: whether spaces are joined and taken off both ends.
    """

    pieces: list[Piece]
    algorithm: Algorithm
    bos: int | None
    eos: int | None
    charsmap: bytes
    adds_space: bool
    tidies: bool


def read_model(data: bytes, where: str) -> SentencePieceModel:
    """The model of a file's bytes.

    Raises TokenizerError for damaged ones; UnsupportedError for what Motet does not do.
    """
    try:
        return _read(data, where)
    except (ValueError, TypeError, struct.error) as error:
        raise TokenizerError(
            f"{where} is no sound SentencePiece model: {error}", hint="fetch the directory again"
        ) from None


def as_draft(model: SentencePieceModel, where: str, n_vocab: int) -> Draft:
    """The vocabulary. Raises TokenizerError for one that has more tokens than the model."""
    table = TokenTable.empty(where, n_vocab)
    table.fill((index, *piece) for index, piece in enumerate(model.pieces))
    kind = _KINDS[model.algorithm]
    keys: dict[str, MetadataValue] = {"pre": "default"}
    unigram = model.algorithm == Algorithm.UNIGRAM
    if unigram or not model.adds_space:
        keys["add_space_prefix"] = model.adds_space
    if unigram or model.tidies:
        keys["remove_extra_whitespaces"] = model.tidies
    if model.charsmap:
        keys["precompiled_charsmap"] = list(model.charsmap)
    return Draft(kind, table, scored=True, keys=keys)


def fairseq_order(model: SentencePieceModel) -> SentencePieceModel:
    """XLM-RoBERTa's ids: four special tokens, SentencePiece's pieces from the third on, <mask>."""
    pieces = [*_FAIRSEQ, *model.pieces[_FAIRSEQ_SKIPS:], (_FAIRSEQ_MASK, 0.0, TokenType.CONTROL)]
    return SentencePieceModel(
        pieces, model.algorithm, 0, 2, model.charsmap, model.adds_space, model.tidies
    )


def _read(data: bytes, where: str) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in fields(data):
        if number == _PIECE:
            pieces.append(_piece(_content(value)))
        elif number == _TRAINER:
            trainer = dict(fields(_content(value)))
        elif number == _NORMALIZER:
            normalizer = dict(fields(_content(value)))
    if not pieces:
        raise ValueError("it has no pieces")
    algorithm = trainer.get(_MODEL_TYPE, Algorithm.UNIGRAM)
    if algorithm not in _KINDS:
        raise UnsupportedError(
            f"{where}: model_type {algorithm} is not supported", hint="unigram (1) and bpe (2) are"
        )
    for spec, number, usual, name in (
        (trainer, _SUFFIX, 0, "treat_whitespace_as_suffix"),
        (normalizer, _ESCAPES, 1, "escape_whitespaces"),
    ):
        if spec.get(number, usual) != usual:
            raise UnsupportedError(f"{where}: {name} {spec[number]} is not supported")
    return SentencePieceModel(
        [*_user_defined_unescaped(pieces)],
        Algorithm(_number(algorithm)),
        bos=_id(trainer.get(_BOS, 1), len(pieces)),
        eos=_id(trainer.get(_EOS, 2), len(pieces)),
        charsmap=_content(normalizer.get(_CHARSMAP, b"")),
        adds_space=bool(normalizer.get(_PREFIX, 1)),
        tidies=bool(normalizer.get(_TIDY, 1)),
    )


def _piece(content: bytes) -> Piece:
    if content[:1] == b"\n" and len(content) > 1:  # nearly all: text, score, perhaps type
        size = content[1]
        rest = content[2 + size :]
        if size < 128 and rest[:1] == b"\x15" and (len(rest) == 5 or rest[5:6] == b"\x18"):
            kind = rest[6] if len(rest) == 7 else TokenType.NORMAL
            if len(rest) in (5, 7) and kind in _TYPES:
                return content[2 : 2 + size].decode(), _FLOAT.unpack_from(rest, 1)[0], kind
    values = dict(fields(content))
    kind = _number(values.get(_TYPE, TokenType.NORMAL))
    text = _content(values.get(_TEXT, b"")).decode()
    if kind not in _TYPES:
        raise ValueError(f"the piece {shown(text)} has type {kind}")
    (score,) = _FLOAT.unpack(_content(values.get(_SCORE, bytes(4))))
    return text, score, kind


_TYPES = frozenset(map(int, TokenType))
_FLOAT = struct.Struct("<f")


def _user_defined_unescaped(pieces: list[Piece]) -> Iterator[Piece]:
    """User-defined pieces are looked for before spaces are escaped; with true spaces, never met."""
    for text, score, kind in pieces:
        if kind != TokenType.USER_DEFINED:
            yield text, score, kind
        elif " " in text:
            yield text, score, TokenType.NORMAL
        else:
            yield text.replace(SPACE, " "), score, kind


def _content(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError(f"a number ({value}) where bytes are expected")
    return value


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes where a number is expected")
    return value


def _id(value: int | bytes, count: int) -> int | None:
    number = _number(value)
    return None if number >= _NO_ID or number >= count else number
