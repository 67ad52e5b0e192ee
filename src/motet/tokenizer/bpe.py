"""BPE by merges: byte-level (``tokenizer.ggml.model`` = "gpt2") and Gemma 4's, on characters.

The merging is that of the ``tokenizers`` library.
"""

import re
from typing import Any

from motet.errors import TokenizerError
from motet.tokenizer.metadata import VocabularyKeys
from motet.tokenizer.pretokenizers import PreTokenizer
from motet.tokenizer.split import parts
from motet.tokenizer.spm import SPACE, unescaped_piece, word_starts
from motet.tokenizer.types import BYTE_TEXTS, TokenType
from motet.tokenizer.vocabulary import TOKENS, Vocabulary

_MERGES = "tokenizer.ggml.merges"
_LONGEST_RUN = 1 << 21
"""Characters without a space, or spaces, that a pattern may meet in a row: Oniguruma gives up
after 10 million steps of backtracking."""
_CUTS = re.compile(r"(?<=[\w!-~])(?=[ \t])|(?<=[0-9A-Za-z\u4e00-\u9fff])(?=[\r\n])")
"""Where every pattern cuts and none looks across: before a blank, or a line's end after a word."""


def _byte_alphabet() -> dict[str, int]:
    """Character -> byte: GPT-2's spelling of bytes as visible characters."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    spelt = {chr(byte): byte for byte in visible}
    spelt.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return spelt


BYTE_OF = _byte_alphabet()


class ByteLevelCodec:
    """Text without special tokens to ids, and ids to bytes."""

    adds_space = False

    def __init__(
        self, vocabulary: Vocabulary, merges: list[tuple[str, str]], prepare: PreTokenizer
    ) -> None:
        from tokenizers import normalizers, pre_tokenizers

        self._vocabulary = vocabulary
        self._compose = normalizers.NFC().normalize_str if prepare.nfc else None
        self._tokenizer = _tokenizer(vocabulary, merges, ignore_merges=prepare.ignore_merges)
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(prepare.steps())
        self._lacking = {byte for char, byte in BYTE_OF.items() if char not in vocabulary.ids}

    def encode(self, text: str, starts: bool) -> list[int]:
        """``starts`` makes no difference here.

        Bytes without a token are left out before merging.
        """
        if self._compose:
            text = self._compose(text)
        _check_runs(text)
        ids: list[int] = []
        for part in parts(text, lambda: _CUTS):
            ids += self._tokenizer.encode(part, add_special_tokens=False).ids
        return ids

    def unspelt(self, text: str) -> tuple[int, str] | None:
        """As for every codec; the place counts characters as they are composed."""
        if self._compose:
            text = self._compose(text)
        lacking = [char for char in set(text) if self._lacking.intersection(char.encode())]
        return min(((text.index(char), char) for char in lacking), default=None)

    def piece(self, token: int) -> bytes:
        text = self._vocabulary.texts[token]
        kind = self._vocabulary.types[token]
        if kind == TokenType.BYTE:
            return bytes((int(text[3:5], 16),))
        if kind in (TokenType.NORMAL, TokenType.UNUSED) and all(c in BYTE_OF for c in text):
            return bytes(BYTE_OF[c] for c in text)
        return text.encode("utf-8", "surrogateescape")


class CharacterCodec:
    """Gemma 4's: spaces spelt as in SentencePiece, no pre-tokenizer, byte tokens as a fallback."""

    adds_space = False

    def __init__(self, vocabulary: Vocabulary, merges: list[tuple[str, str]]) -> None:
        self._vocabulary = vocabulary
        unk = vocabulary.special.unk
        unknown = None if unk is None else vocabulary.texts[unk]
        self._tokenizer = _tokenizer(vocabulary, merges, byte_fallback=True, unk_token=unknown)

    def encode(self, text: str, starts: bool) -> list[int]:
        """``starts`` makes no difference here.

        Characters that have neither a token nor bytes are unknown, together where they are side
        by side, or left out if there is no unknown token.
        """
        ids: list[int] = []
        unknown = [self._vocabulary.special.unk]
        for part in parts(text.replace(" ", SPACE), self._cuts):
            found = self._tokenizer.encode(part, add_special_tokens=False).ids
            ids += found[ids[-1:] == found[:1] == unknown :]  # unknown on both sides of the cut
        return ids

    def unspelt(self, text: str) -> tuple[int, str] | None:
        known = self._vocabulary.ids
        text = text.replace(" ", SPACE)
        lacking = [
            char
            for char in set(text) - known.keys()
            if not all(BYTE_TEXTS[byte] in known for byte in char.encode())
        ]
        return min(((text.index(char), char) for char in lacking), default=None)

    def _cuts(self) -> re.Pattern[str]:
        return word_starts(self._vocabulary)

    def piece(self, token: int) -> bytes:
        return unescaped_piece(self._vocabulary, token)


def read_merges(keys: VocabularyKeys) -> list[tuple[str, str]]:
    """Pairs in order of rank. The file has them as two tokens with a space between."""
    merges = []
    for index, line in enumerate(keys.strings(_MERGES)):
        left, _, right = line.partition(" ")
        if not (left and right):
            raise keys.error(_MERGES, f"has {line[:40]!r} at index {index}, must be two tokens")
        merges.append((left, right))
    return merges


def _tokenizer(
    vocabulary: Vocabulary,
    merges: list[tuple[str, str]],
    ignore_merges: bool = False,
    byte_fallback: bool = False,
    unk_token: str | None = None,
) -> Any:
    from tokenizers import Tokenizer, models

    ids = vocabulary.ids
    # The library panics on some of these, and says nothing precise of the others.
    lost = next((i for i, (left, right) in enumerate(merges) if left + right not in ids), None)
    if lost is not None:
        raise TokenizerError(
            f"metadata key {_MERGES!r}: merge {lost} makes {''.join(merges[lost])[:40]!r}, "
            f"which is not in {TOKENS!r}"
        )
    try:
        model = models.BPE(
            ids,
            merges,
            ignore_merges=ignore_merges,
            byte_fallback=byte_fallback,
            unk_token=unk_token,
            fuse_unk=True,
        )
        return Tokenizer(model)
    except Exception as error:  # the library raises nothing more precise
        reason = str(error).encode("unicode_escape").decode()
        raise TokenizerError(
            f"metadata keys {_MERGES!r} and {TOKENS!r} do not fit together: {reason[:200]}"
        ) from error


def _check_runs(text: str) -> None:
    if len(text) <= _LONGEST_RUN:
        return
    for run in re.finditer(r"\s+|\S+", text):
        if run.end() - run.start() > _LONGEST_RUN:
            kind = "spaces" if run[0].isspace() else "characters without a space"
            raise TokenizerError(
                f"the text has {run.end() - run.start()} {kind} in a row at position "
                f"{run.start()}; at most {_LONGEST_RUN} can be tokenized",
                hint="break the text into lines",
            )
