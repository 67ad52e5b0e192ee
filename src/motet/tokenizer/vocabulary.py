"""The tokens of a vocabulary, what each is, and which of them have a part to play."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from motet.tokenizer.metadata import VocabularyKeys

TOKENS = "tokenizer.ggml.tokens"
_TYPES = "tokenizer.ggml.token_type"
_BYTE_TEXT = re.compile("<0x[0-9A-F]{2}>")


class TokenType(IntEnum):
    """``tokenizer.ggml.token_type``; the numbers are those of SentencePiece's ModelProto."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens with a part to play; None where the vocabulary has no such token."""

    bos: int | None
    eos: int | None
    unk: int | None
    sep: int | None
    pad: int | None
    eot: int | None
    eom: int | None
    eog: frozenset[int]
    suppressed: frozenset[int]


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids.

    ``texts``: each token as the file spells it, or what its spelling stands for where the kind of
    vocabulary has escapes. ``ids``: text -> id. ``types``: a TokenType each.
    """

    texts: list[str]
    ids: dict[str, int]
    types: bytes
    special: SpecialTokens

    def of_type(self, *types: TokenType) -> list[int]:
        """Ids of all tokens of one of the types, ascending."""
        marks = np.frombuffer(self.types, np.uint8)
        return np.flatnonzero(np.isin(marks, types)).tolist()


_END_OF_TURN = (
    "<|eot_id|>",  # Llama 3
    "<|im_end|>",  # ChatML
    "<|end|>",  # Phi 3
    "<end_of_turn>",  # Gemma
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",  # DeepSeek
    "<end_of_utterance>",
)
_END_OF_MESSAGE = ("<|eom_id|>",)
_END_OF_GENERATION = (
    *_END_OF_TURN,
    *_END_OF_MESSAGE,
    "</s>",
    "<eos>",
    "[EOS]",
    "<turn|>",  # Gemma 4
    "<|tool_response>",
    "<|return|>",  # gpt-oss
    "<|call|>",
    "<|flush|>",  # Solar Open
    "<|calls|>",
    "[e~[",  # MiniMax
)
_PADDING_OF_CODE = {
    "fim_pad": (
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<PAD>",
        "[PAD]",
    ),
    "fim_rep": (
        "<|fim_repo|>",
        "<|repo_name|>",
        "<fim-repo>",
        "<REPO>",
        "<reponame>",
    ),
    "fim_sep": ("<|file_sep|>",),
}
"""Code models end an answer by going on to the next file or repository."""
_FILL_IN_THE_MIDDLE = tuple(
    spelling.format(part)
    for spelling, parts in {
        "<|fim_{}|>": ("prefix", "suffix", "middle"),
        "<fim_{}>": ("prefix", "suffix", "middle"),
        "<fim-{}>": ("prefix", "suffix", "middle"),
        "<|code_{}|>": ("prefix", "suffix", "middle"),
        "<|{}|>": ("prefix", "suffix", "middle"),
        "<｜fim▁{}｜>": ("begin", "hole", "end"),
        "<{}>": ("PRE", "SUF", "MID"),
        "▁<{}>": ("PRE", "SUF", "MID"),
    }.items()
    for part in parts
)


def read_vocabulary(
    keys: VocabularyKeys, defaults: dict[str, int], unescape: Callable[[str], str] | None = None
) -> Vocabulary:
    """The tokens and special tokens that ``keys`` describe.

    ``defaults``: id of "bos" and "eos" where the file does not name them and that token is a
    control token. ``unescape``: from a token's spelling to its text; ValueError if it is none.
    """
    texts = _texts(keys, unescape)
    ids = dict(zip(texts, range(len(texts)), strict=True))
    if len(ids) != len(texts):
        index = next(i for i, text in enumerate(texts) if ids[text] != i)
        raise keys.error(TOKENS, f"has {texts[index]!r} at both {index} and {ids[texts[index]]}")
    types = _types(keys, texts)
    special = _special_tokens(keys, ids, types, defaults)
    return Vocabulary(texts, ids, bytes(types), special)


def _texts(keys: VocabularyKeys, unescape: Callable[[str], str] | None) -> list[str]:
    texts = keys.strings(TOKENS)
    if unescape is not None:
        texts = _unescaped(keys, texts, unescape)
    if "" in texts:
        # As in llama.cpp: an empty token can never be met in a text, but it has an id.
        texts = [text or f"[EMPTY_{index}]" for index, text in enumerate(texts)]
    try:
        "".join(texts).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        wrong = error.object[error.start]
        index = next(index for index, text in enumerate(texts) if wrong in text)
        raise keys.error(
            TOKENS, f"has a lone surrogate, U+{ord(wrong):04X}, at index {index}"
        ) from None
    return texts


def _unescaped(keys: VocabularyKeys, texts: list[str], unescape: Callable[[str], str]) -> list[str]:
    meant = []
    for index, text in enumerate(texts):
        try:
            meant.append(unescape(text))
        except ValueError as error:
            raise keys.error(TOKENS, f"has {text[:40]!r} at index {index}: {error}") from None
    return meant


def _types(keys: VocabularyKeys, texts: list[str]) -> bytearray:
    types = keys.numbers(_TYPES, np.int64, len(texts))
    wrong = np.flatnonzero((types < min(TokenType)) | (types > max(TokenType)))
    if wrong.size:
        index = int(wrong[0])
        raise keys.error(_TYPES, f"is {types[index]} at index {index}, must be 1 to 6")
    for index in np.flatnonzero(types == TokenType.BYTE).tolist():
        if not _BYTE_TEXT.fullmatch(texts[index]):
            problem = f"says that token {index}, {texts[index][:20]!r}, is a byte, such as <0x0A>"
            raise keys.error(_TYPES, problem)
    return bytearray(types.astype(np.uint8).tobytes())


def _special_tokens(
    keys: VocabularyKeys, ids: dict[str, int], types: bytearray, defaults: dict[str, int]
) -> SpecialTokens:
    """As llama.cpp finds them.

    Tokens that look like control tokens but are not marked so in ``types`` become so: a text must
    not end a generation by spelling them.
    """

    def named(name: str, default: int | None = None) -> int | None:
        key = f"tokenizer.ggml.{name}_token_id"
        return keys.token_id(key, len(types)) if keys.has(key) else default

    def control(name: str) -> int | None:
        index = defaults.get(name, len(types))
        is_control = index < len(types) and types[index] == TokenType.CONTROL
        return named(name, index if is_control else None)

    def found(name: str, texts: tuple[str, ...]) -> int | None:
        return named(name, next((ids[text] for text in texts if text in ids), None))

    unknown = types.find(TokenType.UNKNOWN)  # converters may mark it as a control token
    eos = control("eos")
    eot = found("eot", _END_OF_TURN)
    eom = found("eom", _END_OF_MESSAGE)
    padding = [found(name, texts) for name, texts in _PADDING_OF_CODE.items()]
    ordinary = {ids[text] for text in _not_ends(ids)}
    ends = {ids[text] for text in _END_OF_GENERATION if text in ids}
    ends = (ends | {index for index in padding if index is not None}) - ordinary
    for index in ends | {ids[text] for text in _FILL_IN_THE_MIDDLE if text in ids}:
        types[index] = TokenType.CONTROL
    ends |= {index for index in (eos, eot, eom) if index is not None}
    return SpecialTokens(
        bos=control("bos"),
        eos=eos,
        unk=named("unknown", unknown if unknown >= 0 else ids.get("<unk>")),
        sep=named("seperator"),  # so spelt in the format
        pad=named("padding"),
        eot=eot,
        eom=eom,
        eog=frozenset(ends - ordinary),
        suppressed=keys.token_ids("tokenizer.ggml.suppress_tokens", len(types)),
    )


def _not_ends(ids: dict[str, int]) -> list[str]:
    """Tokens that end a generation elsewhere, but not in this vocabulary."""
    texts = []
    calls, goes_on = (
        {"<|call|>", "<|calls|>"} & ids.keys(),
        {"<|return|>", "<|flush|>"} & ids.keys(),
    )
    if "<|end|>" in ids and calls and goes_on:
        texts.append("<|end|>")  # ends a message of gpt-oss or Solar Open; more follow
    if "</s>" in ids and "<|tool_response>" in ids:
        texts.append("</s>")  # an ordinary HTML tag in Gemma 4
    return texts
