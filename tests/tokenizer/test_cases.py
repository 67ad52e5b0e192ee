"""Ids against the published ones: llama.cpp's cases, the goldens, and SentencePiece itself."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from motet.errors import UnsupportedError
from motet.tokenizer import IncrementalDecoder
from tests.shared import SHARED, needs_shared
from tests.tokenizer.texts import random_text
from tests.tokenizer.vocabularies import (
    FOLDER,
    TEXTS,
    goldens,
    llama_cpp_cases,
    loaded,
    made,
    sentencepiece_metadata,
)

NAMES = ("llama-spm", "gpt-2", "llama-bpe")
MORE = Path(os.environ.get("LLAMA_CPP_MODELS", "/nonexistent"))
"""The folder ``models`` of a llama.cpp checkout, which has many more vocabularies."""


@needs_shared
@pytest.mark.parametrize("name", NAMES)
def test_llama_cpp_cases(name: str) -> None:
    path = FOLDER / f"ggml-vocab-{name}.gguf"
    cases = llama_cpp_cases(path)
    assert len(cases) == 46
    for text, ids in cases:
        assert loaded(path).encode(text, add_special=False) == ids
        assert loaded(path).decode(ids) == text


@pytest.mark.skipif(not MORE.is_dir(), reason="needs LLAMA_CPP_MODELS, llama.cpp's models folder")
def test_more_llama_cpp_cases() -> None:
    checked = []
    for path in sorted(MORE.glob("ggml-vocab-*.gguf")):
        if not path.with_name(path.name + ".inp").exists():
            continue
        try:
            tokenizer = loaded(path)
        except UnsupportedError:
            continue
        checked.append(path.name)
        for text, ids in llama_cpp_cases(path):
            if "qwen35" in path.name and not unicodedata.is_normalized("NFC", text):
                continue  # llama.cpp leaves out Qwen's NFC
            assert tokenizer.encode(text, add_special=False) == ids, (path.name, text)
    assert len(checked) >= 10


@needs_shared
@pytest.mark.parametrize("kind", ["small", "mixed", "utf8"])
def test_llama2_goldens(kind: str) -> None:
    tokenizer = made(sentencepiece_metadata(FOLDER / "llama2.tokenizer.model"))
    for text, ids in goldens(kind, "llama2"):
        assert tokenizer.encode(text, add_special=False, parse_special=True) == ids


@needs_shared
@pytest.mark.parametrize("kind", ["small", "mixed", "utf8"])
def test_gpt_neox_goldens(kind: str) -> None:
    tokenizer = loaded(FOLDER / "ggml-vocab-gpt-neox.gguf")
    for text, ids in goldens(kind, "gpt_neox"):
        assert tokenizer.encode(text, add_special=False, parse_special=True) == ids


@needs_shared
@pytest.mark.parametrize("text_name", TEXTS)
@pytest.mark.parametrize("model", ["llama2", "mistral-v3", "stories260K"])
def test_books_as_sentencepiece_itself_reads_them(model: str, text_name: str) -> None:
    from sentencepiece import SentencePieceProcessor

    if model == "stories260K":
        path = SHARED / "stories260K" / "tok512.model"
        tokenizer = loaded(SHARED / "stories260K" / "stories260K-F32.gguf")
    else:
        path = FOLDER / f"{model}.tokenizer.model"
        tokenizer = made(sentencepiece_metadata(path))
    text = (SHARED / "text" / f"{text_name}.txt").read_text()[:100_000]
    ids = tokenizer.encode(text, add_special=False)
    assert ids == SentencePieceProcessor(model_file=str(path)).encode(text)
    assert tokenizer.decode(ids) == text


@needs_shared
def test_gpt_neox_as_the_tokenizers_library_reads_it() -> None:
    from tokenizers import Tokenizer

    oracle = Tokenizer.from_file(str(FOLDER / "gpt-neox.tokenizer.json"))
    tokenizer = loaded(FOLDER / "ggml-vocab-gpt-neox.gguf")
    for name in TEXTS:
        text = (SHARED / "text" / f"{name}.txt").read_text()[:100_000]
        ids = tokenizer.encode(text)
        assert ids == oracle.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == text


@needs_shared
def test_random_texts_as_the_tokenizers_library_reads_them() -> None:
    from tokenizers import Tokenizer

    oracle = Tokenizer.from_file(str(FOLDER / "gpt-neox.tokenizer.json"))
    tokenizer = loaded(FOLDER / "ggml-vocab-gpt-neox.gguf")
    for seed in range(500):
        text = random_text(np.random.default_rng(seed), ["<|endoftext|>", "   ", "<|padding|>"])
        for parse in (False, True):
            oracle.encode_special_tokens = not parse
            ids = oracle.encode(text, add_special_tokens=False).ids
            assert tokenizer.encode(text, parse_special=parse, strict=True) == ids


@needs_shared
@pytest.mark.parametrize("model", ["llama2", "mistral-v3"])
def test_random_texts_as_sentencepiece_itself_reads_them(model: str) -> None:
    from sentencepiece import SentencePieceProcessor

    path = FOLDER / f"{model}.tokenizer.model"
    tokenizer, oracle = made(sentencepiece_metadata(path)), SentencePieceProcessor(str(path))
    for seed in range(500):
        text = random_text(np.random.default_rng(seed))
        ids = oracle.encode(text)
        assert tokenizer.encode(text, add_special=False, strict=True) == ids


@needs_shared
@pytest.mark.parametrize("name", [*NAMES, "gpt-neox"])
def test_decoding_token_by_token(name: str) -> None:
    tokenizer = loaded(FOLDER / f"ggml-vocab-{name}.gguf")
    for text, _ in goldens("mixed", "llama2")[:40]:
        ids = tokenizer.encode(text, add_special=False)
        decoder = IncrementalDecoder(tokenizer)
        parts = [decoder.push(token) for token in ids]
        assert "".join(parts) + decoder.flush() == tokenizer.decode(ids)
        assert not any("\ufffd" in part for part in parts)
