"""Which tokens of a directory's vocabulary have a part to play, in GGUF's keys."""

from collections.abc import Mapping
from typing import Any

from motet.errors import TokenizerError, UnsupportedError, shown
from motet.huggingface.tokenizer.files import (
    CONFIG,
    GENERATION,
    MODEL_CONFIG,
    SPECIAL_MAP,
    TokenizerFiles,
    token_text,
)
from motet.huggingface.tokenizer.post_processor import Around
from motet.tokenizer.special import END_OF_GENERATION

_PARTS = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",  # so spelt in the format
    "pad": "padding",
    "cls": "cls",
    "mask": "mask",
    "eot": "eot",
}
"""transformers' name of each -> GGUF's."""
_REQUIRED = "bos", "eos"
"""Parts whose token must be in the vocabulary; files name others that they do not have."""
_STANDS_IN = {"bos": "cls", "eos": "sep"}
"""BERT's files name only those."""


class SpecialTokens:
    """Finds the tokens' ids.

    ``ids``: the vocabulary's, text -> id. ``defaults``: part -> id, where no file names one.
    """

    def __init__(
        self,
        files: TokenizerFiles,
        ids: Mapping[str, int],
        n_vocab: int,
        defaults: Mapping[str, int],
    ) -> None:
        self._files = files
        self._ids = ids
        self._n_vocab = n_vocab
        self._defaults = defaults

    def parts(self) -> dict[str, int]:
        """transformers' name -> id, of those that the files name.

        By its text in ``tokenizer_config.json`` or ``special_tokens_map.json``, else by its id in
        ``config.json`` or ``generation_config.json``.
        Raises TokenizerError for a BOS or EOS that is not in the vocabulary.
        """
        found: dict[str, int] = {}
        for part in _PARTS:
            index = self._by_text(part)
            if index is None and part in _STANDS_IN:
                index = self._by_text(_STANDS_IN[part])
            if index is None:
                index = next(iter(self._by_id(part)), self._defaults.get(part))
            if index is not None:
                found[part] = index
        return found

    def further_ends(self, eos: int | None) -> list[int]:
        """Ids that end a generation beside EOS, and whose text does not say it already.

        As ``generation_config.json`` has them, else a list in ``config.json``.
        """
        listed = dict.fromkeys(self._by_id("eos", (GENERATION,)))
        if not listed:
            config = self._by_id("eos", (MODEL_CONFIG,))
            listed = dict.fromkeys(config if len(config) > 1 else ())
        known = {self._ids[text] for text in END_OF_GENERATION if text in self._ids}
        return [index for index in listed if index != eos and index not in known]

    def suppressed(self) -> list[int]:
        """Ids that are never to be generated, as ``generation_config.json`` has them."""
        listed = self._files.listed(GENERATION, "suppress_tokens")
        return [index for index in listed if type(index) is int and 0 <= index < self._n_vocab]

    def _by_text(self, part: str) -> int | None:
        for name in (CONFIG, SPECIAL_MAP):
            text = token_text(self._files.json(name).get(f"{part}_token"))
            if text is None:
                continue
            if text not in self._ids and part in _REQUIRED:
                raise self._files.error(
                    name, f"names the {part}_token {shown(text)}, which is not in the vocabulary"
                )
            return self._ids.get(text)
        return None

    def _by_id(self, part: str, names: tuple[str, ...] = (MODEL_CONFIG, GENERATION)) -> list[int]:
        found: list[int] = []
        key = f"{part}_token_id"
        for name in names:
            config = self._files.json(name)
            value = config.get(key)
            if value is None and name == MODEL_CONFIG:
                value = self._files.table(name, "text_config").get(key)
            for index in value if isinstance(value, list) else [value]:
                if type(index) is int and 0 <= index < self._n_vocab:
                    found.append(index)
                elif index is not None and part in _REQUIRED and index != -1:
                    raise self._files.error(
                        name,
                        f"has {key} {shown(value)}, but the vocabulary has {self._n_vocab} tokens",
                    )
        return found


def special_keys(
    special: SpecialTokens, around: Around | None, adds: Mapping[str, bool | None], where: str
) -> dict[str, Any]:
    """Keys, without ``tokenizer.ggml.``, that say which tokens have parts and which are added.

    ``around``: the post-processor, which is right where it says something; else ``adds``, by "bos"
    and "eos", None where no file says it.
    Raises UnsupportedError for what GGUF cannot say.
    """
    parts = special.parts()
    ends = special.further_ends(parts.get("eos"))
    keys: dict[str, Any] = {}
    if around is not None:
        if len(around.prefix) > 1 or len(around.suffix) > 1:
            raise UnsupportedError(
                f"{where}: the post-processor adds {len(around.prefix)} tokens before and "
                f"{len(around.suffix)} after a text; one of each is supported"
            )
        if around.prefix:
            parts["bos"] = around.prefix[0]
        if around.suffix and parts.get("eos") != around.suffix[0]:
            ends = [parts["eos"], *ends] if "eos" in parts else ends
            parts["eos"] = around.suffix[0]
        keys["add_bos_token"], keys["add_eos_token"] = bool(around.prefix), bool(around.suffix)
        keys |= _between(around, parts)
    else:
        for part, added in adds.items():
            if added and part not in parts:
                raise TokenizerError(f"{where} says add_{part}_token, but names no {part}_token")
            if added is not None:
                keys[f"add_{part}_token"] = added
    keys |= {f"{_PARTS[part]}_token_id": index for part, index in parts.items()}
    if len(ends) > 2:
        raise UnsupportedError(
            f"{where}, generation_config.json: {len(ends)} ids beside EOS end a generation"
            f" ({shown(ends)}); Motet takes 2 beside those whose names say so",
            hint="take those out of eos_token_id that a chat does not need",
        )
    keys |= dict(zip(("eot_token_id", "eom_token_id"), ends, strict=False))
    if suppressed := special.suppressed():
        keys["suppress_tokens"] = suppressed
    return keys


def _between(around: Around, parts: dict[str, int]) -> dict[str, Any]:
    """Whether a separator follows what ends the first text of a pair; it may have to be named."""
    if not around.between:
        return {}
    if around.between == around.suffix:
        return {"add_sep_token": False}
    rest = around.between[len(around.suffix) :]
    if around.between[: len(around.suffix)] != around.suffix or len(rest) != 1:
        return {}
    parts.setdefault("sep", rest[0])
    return {"add_sep_token": True} if parts["sep"] == rest[0] else {}
