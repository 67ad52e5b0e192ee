"""Unigram of a ``tokenizer.json``: T5's and XLM-RoBERTa's, GGUF's ``t5``."""

import base64
import binascii
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from motet.errors import shown
from motet.huggingface.tokenizer.description import Description, Draft
from motet.huggingface.tokenizer.pre_tokenizers import steps
from motet.tokenizer.spm import SPACE
from motet.tokenizer.types import BYTE_TEXTS, TokenType
from motet.weights.gguf_metadata import MetadataValue

_USED = "type", "unk_id", "vocab", "byte_fallback"
_WITHIN = re.compile(f"[^{SPACE}]{SPACE}")
"""A token that reaches over a space, which the library's words do not."""
_STRIP = {"type": "Strip", "strip_left": False, "strip_right": True}
_JOIN = ("Replace", {"Regex": " {2,}"})


def read_unigram(description: Description) -> Draft:
    """The vocabulary. Raises TokenizerError and UnsupportedError, see ``read_tokenizer_json``."""
    description.require_only(_USED)
    unknown = description.model.get("unk_id")
    if unknown is not None and type(unknown) is not int:
        raise description.damaged(f"has unk_id {shown(unknown)}, which is no id")
    as_bytes = set(BYTE_TEXTS) if description.flag("byte_fallback") else set[str]()
    keys = _normalization(description)

    def typed() -> Iterator[tuple[int, str, float, int]]:
        for index, (text, score) in enumerate(_pieces(description)):
            kind = TokenType.BYTE if text in as_bytes else TokenType.NORMAL
            yield index, text, score, TokenType.UNKNOWN if index == unknown else kind

    table = description.empty_table()
    table.fill(typed())
    if not as_bytes and (spelt := set(BYTE_TEXTS).intersection(table.tokens)):
        raise description.refusal(f"the token {min(spelt)} without byte_fallback")
    added = {token.content for token in description.added.values()}
    crossing = next((t for t in table.tokens if _WITHIN.search(t) and t not in added), None)
    if crossing is not None:
        raise description.refusal(f"the token {shown(crossing)}, which reaches across a space")
    return Draft("t5", table, scored=True, keys=keys)


def _pieces(description: Description) -> Iterator[tuple[str, float]]:
    vocab = description.model.get("vocab")
    if not isinstance(vocab, list) or not vocab:
        raise description.damaged(f"has the vocabulary {shown(vocab)}, must be a list of tokens")
    for index, entry in enumerate(vocab):
        match entry:
            case [str(text), int() | float() as score] if math.isfinite(score):
                yield text, float(score)
            case _:
                raise description.damaged(
                    f"has the token {shown(entry)} at id {index}, must be a text and its score"
                )


def _normalization(description: Description) -> dict[str, MetadataValue]:
    """Keys that say what is done to text before it is cut.

    The library's steps are SentencePiece's own normalisation taken apart: a table of characters;
    spaces joined and taken off both ends; a space before each word.
    """
    keys: dict[str, MetadataValue] = {"pre": "default"}
    strips = joins = False
    for step in steps(description.normalizer, "normalizers"):
        match step:
            case {"type": "Precompiled", "precompiled_charsmap": table} if not (strips or joins):
                if table:
                    keys["precompiled_charsmap"] = _bytes(description, table)
            case {"type": "Strip", "strip_left": False, "strip_right": True}:
                strips = True
            case {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " " | "▁"}:
                joins = True
            case _:
                raise description.refusal(f"the normalizer {shown(dict(step))}")
    after = [*steps(description.pre_tokenizer, "pretokenizers")]
    words = [step.get("type") for step in after]
    if words not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]) or not _before_words(
        after[-1]
    ):
        raise description.refusal(f"the pre-tokenizer {shown(description.pre_tokenizer)}")
    if len(words) == 1 and not (strips and joins):
        raise description.refusal("spaces that are kept at the ends of text")
    return keys | {"add_space_prefix": True, "remove_extra_whitespaces": True}


def _before_words(metaspace: Mapping[str, Any]) -> bool:
    """Whether it puts a space before every word; two forms, of which the first is the older."""
    old = metaspace.get("add_prefix_space", True) is True
    new = metaspace.get("prepend_scheme", "always") == "always"
    return old and new and metaspace.get("replacement") == SPACE


def _bytes(description: Description, table: Any) -> list[int]:
    try:
        return list(base64.b64decode(table, validate=True))
    except (TypeError, ValueError, binascii.Error):
        raise description.damaged("has a precompiled_charsmap that is not base64") from None
