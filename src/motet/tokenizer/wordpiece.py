"""BERT's WordPiece vocabularies (``tokenizer.ggml.model`` = "bert"), by the ``tokenizers`` library.

Files spell a token that starts a word with a U+2581 before it, and one that goes on with a word as
it is, where BERT's own lists have ## before the latter.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from string import ascii_uppercase

from motet.tokenizer.metadata import VocabularyKeys
from motet.tokenizer.split import parts
from motet.tokenizer.spm import SPACE
from motet.tokenizer.types import SPECIAL_TYPES, TokenType
from motet.tokenizer.vocabulary import Vocabulary, read_vocabulary

_LOWERCASE = "tokenizer.ggml.normalizer.lowercase"
_STRIP_ACCENTS = "tokenizer.ggml.normalizer.strip_accents"
_LONGEST_WORD = 100
"""Characters beyond which a word is unknown, in every BERT."""
_GOES_ON, _UNKNOWN = "\t", "\n"
"""How the library is told what goes on with a word, and what is unknown: no word has them."""
_CUTS = re.compile(r"(?<=\S)(?= )")
_NOT_IN_WORDS = re.compile(r"[\t\n\ud800-\udfff]")


class WordPieceCodec:
    """Text without special tokens to ids, and ids to bytes.

    Text is cleaned and cut as Hugging Face's BertNormalizer and BertPreTokenizer do it; the tokens
    of a word are the longest that fit, from its beginning on. A word that cannot be spelt so is the
    unknown token, or left out if there is none.
    """

    adds_space = True
    """Words are decoded with a space before each."""

    def __init__(self, vocabulary: Vocabulary, lowercase: bool, strip_accents: bool) -> None:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

        self._vocabulary = vocabulary
        unk = vocabulary.special.unk
        self._unknown = len(vocabulary.texts) if unk is None else unk
        self._tokenizer = Tokenizer(
            models.WordPiece(
                dict(_spelt(vocabulary)) | {_UNKNOWN: self._unknown},
                unk_token=_UNKNOWN,
                max_input_chars_per_word=_LONGEST_WORD,
                continuing_subword_prefix=_GOES_ON,
            )
        )
        self._tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=True,
            strip_accents=strip_accents,
            lowercase=lowercase,
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def encode(self, text: str, starts: bool) -> list[int]:
        """``starts`` makes no difference here."""
        ids: list[int] = []
        for part in parts(text, lambda: _CUTS):
            ids += self._tokenizer.encode(part, add_special_tokens=False).ids
        if self._vocabulary.special.unk is None:
            ids = [token for token in ids if token != self._unknown]
        return ids

    def unspelt(self, text: str) -> tuple[int, str] | None:
        """As for every codec, but it is a word that has no tokens."""
        done = self._tokenizer.encode(text, add_special_tokens=False)
        if self._unknown not in done.ids:
            return None
        start, end = done.offsets[done.ids.index(self._unknown)]
        return start, text[start:end]

    def piece(self, token: int) -> bytes:
        text = self._vocabulary.texts[token]
        if _starts_word(self._vocabulary, token):
            text = " " + text[1:]
        elif token == self._vocabulary.special.unk:
            text = " " + text
        return text.encode("utf-8", "surrogateescape")


def read_wordpiece(keys: VocabularyKeys) -> tuple[Vocabulary, WordPieceCodec]:
    """The vocabulary and the codec that ``keys`` describe.

    Files do not always say whether text is lower-cased. Where they do not, it is unless there are
    tokens for capital letters, which would never be met.
    """
    vocabulary = _with_specials(read_vocabulary(keys, {}))
    cased = any(SPACE + letter in vocabulary.ids for letter in ascii_uppercase)
    lowercase = keys.flag(_LOWERCASE, not cased)
    return vocabulary, WordPieceCodec(vocabulary, lowercase, keys.flag(_STRIP_ACCENTS, lowercase))


def _with_specials(vocabulary: Vocabulary) -> Vocabulary:
    """Special tokens spelt as in texts, and those found that BERT's files need not name.

    Converters put U+2581 before special tokens too, unless they are control tokens.
    """

    def found(token: int | None, text: str) -> int | None:
        return ids.get(text, ids.get(SPACE + text)) if token is None else token

    ids, special = vocabulary.ids, vocabulary.special
    special = replace(
        special,
        bos=found(special.bos if special.cls is None else special.cls, "[CLS]"),
        sep=found(special.sep, "[SEP]"),
        unk=found(special.unk, "[UNK]"),
        pad=found(special.pad, "[PAD]"),
    )
    types = bytearray(vocabulary.types)
    for token in (special.bos, special.sep, special.pad):
        if token is not None:
            types[token] = TokenType.CONTROL
    if special.unk is not None:
        types[special.unk] = TokenType.UNKNOWN
    texts = [
        text.removeprefix(SPACE)
        if kind in SPECIAL_TYPES and text[1:] and text[1:] not in ids
        else text
        for text, kind in zip(vocabulary.texts, types, strict=True)
    ]
    return Vocabulary(texts, bytes(types), special)


def _starts_word(vocabulary: Vocabulary, token: int) -> bool:
    text = vocabulary.texts[token]
    ordinary = vocabulary.types[token] not in SPECIAL_TYPES
    return ordinary and len(text) > 1 and text.startswith(SPACE)


def _spelt(vocabulary: Vocabulary) -> Iterator[tuple[str, int]]:
    """The tokens that words are cut into, as the library is told them."""
    for token in vocabulary.of_type(TokenType.NORMAL):
        text = vocabulary.texts[token]
        if not _NOT_IN_WORDS.search(text):
            yield text[1:] if _starts_word(vocabulary, token) else _GOES_ON + text, token
