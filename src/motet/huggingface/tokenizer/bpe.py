"""BPE of a ``tokenizer.json``: byte-level, or on characters with bytes as a fallback."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from motet.errors import shown
from motet.huggingface.tokenizer.description import Description, Draft
from motet.huggingface.tokenizer.merges import (
    Merge,
    differs_from_scores,
    merge_scores,
    merges_reach_all,
    numerals_stay_apart,
    read_merges,
)
from motet.huggingface.tokenizer.pre_tokenizers import described, name_of, steps
from motet.tokenizer.bpe import BYTE_OF
from motet.tokenizer.spm import SPACE
from motet.tokenizer.types import BYTE_TEXTS, TokenType
from motet.weights.gguf_metadata import MetadataValue

_USED = "type", "vocab", "merges", "unk_token", "fuse_unk", "byte_fallback", "ignore_merges"
_BY_RANK = "gemma4"
"""The architecture, and kind of vocabulary, whose characters are merged by rank in GGUF too."""
_PREPEND = {"type": "Prepend", "prepend": SPACE}
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_NO_SPACES_LEFT = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}
"""Gemma's, after spaces have been replaced."""


def read_bpe(description: Description) -> Draft:
    """The vocabulary. Raises TokenizerError and UnsupportedError, see ``read_tokenizer_json``."""
    description.require_only(_USED)
    vocab = description.words()
    merges = read_merges(description.model.get("merges"), vocab, description.where)
    kinds = [step.get("type") for step in steps(description.pre_tokenizer, "pretokenizers")]
    read = _byte_level if "ByteLevel" in kinds else _characters
    return read(description, vocab, merges)


def _byte_level(description: Description, vocab: dict[str, int], merges: list[Merge]) -> Draft:
    where = description.where
    does = described(description.normalizer, description.pre_tokenizer, where)
    does = replace(does, ignore_merges=description.flag("ignore_merges"))
    lacking = [char for char in BYTE_OF if char not in vocab]
    if lacking and (description.model.get("unk_token") or description.flag("byte_fallback")):
        raise description.refusal(
            f"the byte 0x{BYTE_OF[lacking[0]]:02X} has no token but the unknown one"
        )
    own = _without_added(description, vocab)
    name = name_of(
        does,
        description.architecture,
        where,
        numerals_stay_apart=lambda: numerals_stay_apart(merges),
        merges_reach_all=lambda: merges_reach_all(vocab, merges, own),
    )
    table = description.empty_table()
    table.fill((index, text, 0.0, TokenType.NORMAL) for text, index in vocab.items())
    return Draft("gpt2", table, keys={"pre": name, "merges": _lines(merges)})


def _characters(description: Description, vocab: dict[str, int], merges: list[Merge]) -> Draft:
    """Spaces are spelt as ``SPACE``; characters without a token are bytes, or unknown."""
    own = _without_added(description, vocab)
    unknown = _unknown(description, vocab)
    if description.flag("ignore_merges") and not merges_reach_all(vocab, merges, own):
        raise description.refusal("ignore_merges, with tokens that no merges make")
    prefix = _adds_space(description)
    ordinary = [token for token in description.added.values() if not token.special]
    if prefix and (moved := next((t.content for t in ordinary if t.normalized), None)):
        raise description.refusal(f"the added token {shown(moved)}, with a space put before it")
    as_bytes = set(BYTE_TEXTS) if description.flag("byte_fallback") else set[str]()

    def kind(text: str) -> TokenType:
        if text == unknown:
            return TokenType.UNKNOWN
        return TokenType.BYTE if text in as_bytes else TokenType.NORMAL

    table = description.empty_table()
    if description.architecture == _BY_RANK:
        if prefix:
            raise description.refusal("a space put before text, for this architecture")
        table.fill((index, text, 0.0, kind(text)) for text, index in vocab.items())
        return Draft(_BY_RANK, table, keys={"merges": _lines(merges), "add_space_prefix": False})
    pieces = {text for text in own if kind(text) == TokenType.NORMAL}
    if difference := differs_from_scores(merges, pieces):
        raise description.refusal(
            f"merging by rank where scores would merge otherwise: {difference}"
        )
    scores = merge_scores(merges)
    lowest = -float(len(scores))
    table.fill(
        (index, text, scores.get(text, lowest) if text in pieces else 0.0, kind(text))
        for text, index in vocab.items()
    )
    keys: dict[str, MetadataValue] = {"pre": "default"}
    if not prefix:
        keys["add_space_prefix"] = False
    return Draft("llama", table, scored=True, keys=keys)


def _unknown(description: Description, vocab: Mapping[str, int]) -> str | None:
    """The unknown token. Raises UnsupportedError where it is met otherwise than in GGUF's kinds."""
    unknown = description.model.get("unk_token")
    if unknown is not None and (not isinstance(unknown, str) or unknown not in vocab):
        raise description.damaged(f"has the unknown token {shown(unknown)}, which is no token")
    bytes_there = [text for text in BYTE_TEXTS if text in vocab]
    if bytes_there and not description.flag("byte_fallback"):
        raise description.refusal(f"the token {bytes_there[0]} without byte_fallback")
    whole = len(bytes_there) == len(BYTE_TEXTS)
    if unknown is not None and not whole and not description.flag("fuse_unk"):
        raise description.refusal("an unknown token for each of several characters")
    return unknown


def _adds_space(description: Description) -> bool:
    """Whether a space is put before text. Raises UnsupportedError for what SentencePiece can't."""
    before = [*map(dict[str, Any], steps(description.normalizer, "normalizers"))]
    after = [*map(dict[str, Any], steps(description.pre_tokenizer, "pretokenizers"))]
    if before in ([_REPLACE], [_PREPEND, _REPLACE]) and after in ([], [_NO_SPACES_LEFT]):
        return _PREPEND in before
    match after:
        case [{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}]:
            if before in ([], [_REPLACE]):
                return False
        case _:
            pass
    raise description.refusal(
        f"the normalizer {shown(description.normalizer)} with the pre-tokenizer "
        f"{shown(description.pre_tokenizer)}"
    )


def _without_added(description: Description, vocab: Mapping[str, int]) -> dict[str, int]:
    """Tokens that text is cut into: added ones are found before."""
    added = {token.content for token in description.added.values()}
    return {text: index for text, index in vocab.items() if text not in added}


def _lines(merges: list[Merge]) -> list[str]:
    return [" ".join(pair) for pair in merges]
