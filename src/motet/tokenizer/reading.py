"""The tokenizer that a GGUF file's metadata describe."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from motet.errors import UnsupportedError
from motet.tokenizer.affixes import Affixes, read_affixes
from motet.tokenizer.bpe import ByteLevelCodec, CharacterCodec, read_merges
from motet.tokenizer.metadata import VocabularyKeys
from motet.tokenizer.pretokenizers import pre_tokenizer
from motet.tokenizer.rwkv import LongestMatchCodec, unescaped
from motet.tokenizer.spm import Algorithm, read_sentencepiece
from motet.tokenizer.templates import read_chat_templates
from motet.tokenizer.tokenizer import Codec, Tokenizer
from motet.tokenizer.vocabulary import Vocabulary, read_vocabulary
from motet.tokenizer.wordpiece import read_wordpiece

_MODEL = "tokenizer.ggml.model"
_PRE = "tokenizer.ggml.pre"


def from_gguf(metadata: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer that a GGUF file's metadata describe; None if it has no vocabulary.

    ``metadata``: key -> Python value, arrays as lists or NumPy arrays.

    Raises TokenizerError, naming the key, for a vocabulary that is damaged; UnsupportedError for
    one of a kind, or with a pre-tokenizer, that Motet does not know.
    """
    keys = VocabularyKeys(metadata)
    kind = keys.text(_MODEL)
    if kind is None:
        raise keys.error(_MODEL, "is missing")
    if kind in ("no_vocab", "none"):
        return None
    if kind == "gpt2" and keys.text(_PRE) == "gemma4":
        kind = "gemma4"
    if kind not in _READERS:
        raise UnsupportedError(
            f"metadata key {_MODEL!r} names the vocabulary kind {kind[:60]!r}, which is not "
            "supported",
            hint="supported are llama (SentencePiece), t5 (Unigram), bert (WordPiece), gpt2 "
            "(byte-level BPE), gemma4 and rwkv",
        )
    vocabulary, codec, affixes = _READERS[kind](keys)
    return Tokenizer(kind, vocabulary, codec, affixes, read_chat_templates(keys))


_Parts = tuple[Vocabulary, Codec, Affixes]


def _llama(keys: VocabularyKeys) -> _Parts:
    vocabulary = read_vocabulary(keys, {"bos": 1, "eos": 2}, spelt_bytes=True)
    codec = read_sentencepiece(keys, vocabulary, Algorithm.BPE)
    return vocabulary, codec, _affixes(keys, vocabulary, True, False)


def _t5(keys: VocabularyKeys) -> _Parts:
    vocabulary = read_vocabulary(keys, {"eos": 1}, spelt_bytes=True)
    codec = read_sentencepiece(keys, vocabulary, Algorithm.UNIGRAM)
    return vocabulary, codec, _affixes(keys, vocabulary, False, True)


def _bert(keys: VocabularyKeys) -> _Parts:
    vocabulary, codec = read_wordpiece(keys)
    special = vocabulary.special
    around = read_affixes(keys, special.bos, special.sep, special.sep, (True, True, False))
    return vocabulary, codec, around


def _gpt2(keys: VocabularyKeys) -> _Parts:
    prepare = pre_tokenizer(keys.text(_PRE), keys.text("general.architecture"))
    vocabulary = read_vocabulary(keys, {})
    codec = ByteLevelCodec(vocabulary, read_merges(keys), prepare)
    return vocabulary, codec, _affixes(keys, vocabulary, prepare.add_bos, False)


def _gemma4(keys: VocabularyKeys) -> _Parts:
    vocabulary = read_vocabulary(keys, {}, spelt_bytes=True)
    codec = CharacterCodec(vocabulary, read_merges(keys))
    affixes = _affixes(keys, vocabulary, True, False)
    if vocabulary.special.bos is not None:
        # Whatever the file says: early conversions say false, and the model needs it.
        affixes = replace(affixes, prefix=(vocabulary.special.bos,))
    return vocabulary, codec, affixes


def _rwkv(keys: VocabularyKeys) -> _Parts:
    vocabulary = read_vocabulary(keys, {}, unescaped)
    codec = LongestMatchCodec(vocabulary)
    return vocabulary, codec, _affixes(keys, vocabulary, False, False)


_READERS = {
    "llama": _llama,
    "t5": _t5,
    "bert": _bert,
    "gpt2": _gpt2,
    "gemma4": _gemma4,
    "rwkv": _rwkv,
}


def _affixes(keys: VocabularyKeys, vocabulary: Vocabulary, bos: bool, eos: bool) -> Affixes:
    """``bos``, ``eos``: whether they are added, where the file does not say."""
    special = vocabulary.special
    named = special.sep is not None
    separator = special.sep if named else special.eos
    return read_affixes(keys, special.bos, special.eos, separator, (bos, eos, named))
