"""Vocabularies older than ``tokenizer.json``, brought into its form; and RWKV's own."""

import ast
import re
from typing import Any

from motet.errors import TokenizerError, UnsupportedError, shown
from motet.huggingface.tokenizer.description import Draft
from motet.huggingface.tokenizer.files import CONFIG, TokenizerFiles, token_text
from motet.huggingface.tokenizer.token_table import TokenTable
from motet.tokenizer.types import TokenType

WORDS = "vocab.txt"
VOCABULARY, MERGES = "vocab.json", "merges.txt"
RWKV = "rwkv_vocab_v20230424.txt"

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_STEPS: dict[str, Any] = {
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": _QWEN2},
                "behavior": "Isolated",
                "invert": False,
            },
            _BYTE_LEVEL | {"use_regex": False},
        ],
    },
}
_GPT2_STEPS: dict[str, Any] = {"pre_tokenizer": _BYTE_LEVEL}
_BY_CLASS = {
    "GPT2Tokenizer": _GPT2_STEPS,
    "RobertaTokenizer": _GPT2_STEPS,
    "CodeGenTokenizer": _GPT2_STEPS,
    "Qwen2Tokenizer": _QWEN2_STEPS,
}
"""What transformers' tokenizer classes do with text; ``vocab.json`` does not say it."""
_BY_ARCHITECTURE = {"gpt2": _GPT2_STEPS, "qwen2": _QWEN2_STEPS}
_CLASS_ENDS = re.compile(r"(Fast)?$")
_ROBERTA = "RobertaTokenizer"
_RWKV_LINE = re.compile(
    r"(\d{1,9}) (b?(?:'(?:[^'\\]|\\[xutnr\\'\"])*'|\"(?:[^\"\\]|\\[xutnr\\'\"])*\")) (\d{1,9})"
)
"""An id, a Python literal of text or bytes with the escapes in use, and a size."""


def wordpiece_json(files: TokenizerFiles) -> dict[str, Any]:
    """What a ``tokenizer.json`` would say for ``vocab.txt``, one token a line."""
    lines = files.directory.text(WORDS).split("\n")
    if lines and not lines[-1]:
        del lines[-1]
    words = {line.rstrip("\r"): index for index, line in enumerate(lines)}
    if len(words) != len(lines):
        raise files.error(WORDS, "has a token twice")
    unknown = _named(files, "unk", "[UNK]")
    ends = [[text, words.get(text)] for text in (_named(files, "sep", "[SEP]"),)]
    begins = [[text, words.get(text)] for text in (_named(files, "cls", "[CLS]"),)]
    lowercase = files.flag(CONFIG, "do_lower_case")
    chinese = files.flag(CONFIG, "tokenize_chinese_chars")
    return {
        "model": {"type": "WordPiece", "vocab": words, "unk_token": unknown},
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": chinese is not False,
            "lowercase": lowercase is not False,
            "strip_accents": files.flag(CONFIG, "strip_accents"),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "cls": begins[0], "sep": ends[0]},
    }


def byte_level_json(files: TokenizerFiles, architecture: str) -> dict[str, Any]:
    """What a ``tokenizer.json`` would say for ``vocab.json`` and ``merges.txt``.

    Raises UnsupportedError if nothing says how text is cut before merging.
    """
    name = files.json(CONFIG).get("tokenizer_class")
    kind = _CLASS_ENDS.sub("", name, count=1) if isinstance(name, str) else None
    steps = _BY_ARCHITECTURE.get(architecture) if kind is None else _BY_CLASS.get(kind)
    if steps is None:
        raise UnsupportedError(
            f"{files.where(VOCABULARY)}: how text is cut for the tokenizer class {shown(name)} "
            "is not known",
            hint="save the tokenizer with transformers as tokenizer.json",
        )
    if files.flag(CONFIG, "add_prefix_space"):
        raise UnsupportedError(f"{files.where(CONFIG)}: add_prefix_space is not supported")
    lines = files.directory.text(MERGES).split("\n")
    lines = lines[1:] if lines[0].startswith("#version") else lines
    merges = [line.rstrip("\r") for line in lines if line.strip()]
    description = {
        "model": {"type": "BPE", "vocab": files.json(VOCABULARY), "merges": merges},
        **steps,
    }
    if kind == _ROBERTA:
        begin, end = _named(files, "cls", "<s>"), _named(files, "sep", "</s>")
        words = files.json(VOCABULARY)
        description["post_processor"] = {
            "type": "RobertaProcessing",
            "cls": [begin, words.get(begin)],
            "sep": [end, words.get(end)],
        }
    return description


def read_rwkv(files: TokenizerFiles, n_vocab: int) -> Draft:
    """RWKV's World vocabulary: lines of an id, a Python literal and a size in bytes.

    Id 0 is <s>, which the list does not have.
    """
    table = TokenTable.empty(files.where(RWKV), n_vocab)
    found: list[tuple[int, str, float, int]] = [(0, "<s>", 0.0, TokenType.CONTROL)]
    for number, line in enumerate(files.directory.text(RWKV).split("\n"), 1):
        if line:
            index, token = _rwkv_token(files, number, line)
            found.append((index, repr(token)[2:-1], 0.0, TokenType.NORMAL))
    table.fill(found)
    return Draft("rwkv", table)


def _rwkv_token(files: TokenizerFiles, number: int, line: str) -> tuple[int, bytes]:
    match = _RWKV_LINE.fullmatch(line.rstrip("\r"))
    try:
        if match is None:
            raise ValueError
        literal = ast.literal_eval(match[2])
        token = literal.encode() if isinstance(literal, str) else literal
        if not token or len(token) != int(match[3]):
            raise ValueError
    except (ValueError, SyntaxError):
        raise TokenizerError(
            f"{files.where(RWKV)} has {shown(line)} in line {number}, must be an id, a token in "
            "quotes and its size in bytes",
            hint="fetch the directory again",
        ) from None
    return int(match[1]), token


def _named(files: TokenizerFiles, name: str, usual: str) -> str:
    return token_text(files.json(CONFIG).get(f"{name}_token")) or usual
