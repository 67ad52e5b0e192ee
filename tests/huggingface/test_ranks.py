"""Kimi's vocabulary, a list of tokens by rank, beside the library that such lists are made for."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet.errors import TokenizerError, UnsupportedError
from motet.huggingface.files import Directory
from motet.huggingface.tokenizer.reading import read_tokenizer
from tests.tokenizer.texts import random_text
from tests.tokenizer.vocabularies import made

SPECIAL = ["[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>"]
WORDS = "the and of in 世界 漢字 is it's Ελλ aa aaa aaaa  =  ing er 12 ... привет"


def ranks() -> list[bytes]:
    """All bytes, then parts of words and their like, each made of two that are there."""
    rng, found = np.random.default_rng(1), [bytes((i,)) for i in range(256)]
    known, text = set(found), WORDS.encode()
    while len(found) < 700:
        start, size = int(rng.integers(len(text))), int(rng.integers(2, 9))
        token = text[start : start + size]
        cuts = range(1, len(token))
        if token in known or not any({token[:i], token[i:]} <= known for i in cuts):
            continue
        known.add(token)
        found.append(token)
    return found


def write(folder: Path, tokens: list[bytes], **changes: Any) -> Path:
    lines = [b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)]
    (folder / "tiktoken.model").write_bytes(b"".join(lines))
    decoder = {str(len(tokens) + i): {"content": text} for i, text in enumerate(SPECIAL)}
    decoder = {index: {**entry, "special": True} for index, entry in decoder.items()}
    config = {
        "tokenizer_class": "TikTokenTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]},
        "added_tokens_decoder": decoder,
        "bos_token": "[BOS]",
        "eos_token": "[EOS]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config | changes))
    return folder


def read(folder: Path, n_vocab: int = 710) -> dict[str, Any]:
    return read_tokenizer(Directory(str(folder)), "kimi-linear", n_vocab)


def test_ids_are_the_librarys(tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken", reason="needs tiktoken, the oracle")
    pytest.importorskip("regex", reason="needs regex, for the pattern")
    from tests.tokenizer.published_patterns import PATTERNS

    tokens = ranks()
    tokenizer = made(read(write(tmp_path, tokens)))
    special = {text: len(tokens) + i for i, text in enumerate(SPECIAL)}
    special |= {f"<|reserved_token_{i}|>": i for i in range(len(tokens) + 4, 710)}
    by_rank = {token: rank for rank, token in enumerate(tokens)}
    oracle = tiktoken.Encoding(
        "kimi", pat_str=PATTERNS["kimi-k2"], mergeable_ranks=by_rank, special_tokens=special
    )
    for seed in range(300):
        text = random_text(np.random.default_rng(seed), [*special, *WORDS.split(" ")])
        for parse in (True, False):
            theirs = oracle.encode(
                text, allowed_special="all" if parse else set(), disallowed_special=()
            )
            ours = tokenizer.encode(text, add_special=False, parse_special=parse)
            assert ours == theirs, (seed, parse)
        assert tokenizer.decode(theirs) == text
    assert tokenizer.prefix == tokenizer.suffix == ()
    assert (tokenizer.bos, tokenizer.eos) == (700, 701)


def test_another_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ranks(), tokenizer_class="Other")
    with pytest.raises(UnsupportedError, match="code of the model's own"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda lines: [*lines[:-1], b"*** 699\n"], "line 700, which must be a token"),
        (lambda lines: lines[:5] + lines[6:], r"at line 6, which must be .* the rank 5"),
        (lambda lines: [*lines, b"QQ== 700\n"], "a token twice"),
        (lambda lines: lines[1:] + lines[:1], "at line 1"),
        (lambda lines: [*lines, b64encode(bytes(1025)) + b" 700\n"], "up to 1024 bytes"),
        (lambda lines: lines[:100], "no token for the byte 0x64"),
        (lambda lines: [], "no token for the byte 0x00"),
    ],
)
def test_damaged_lists(change: Any, error: str, tmp_path: Path) -> None:
    path = write(tmp_path, ranks()) / "tiktoken.model"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(TokenizerError, match=error):
        read(tmp_path)


def test_more_tokens_than_the_model_has(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="has 700 tokens, but the model has 699"):
        read(write(tmp_path, ranks()), 699)
