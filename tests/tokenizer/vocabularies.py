"""Small vocabularies as a GGUF file's metadata, and readers of the shared ones."""

import ast
import io
import json
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from motet.tokenizer import Tokenizer, from_gguf
from motet.weights.gguf import GGUFFile
from tests.shared import SHARED
from tests.tokenizer.texts import random_text

FOLDER = SHARED / "tokenizers"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
TEXTS = ("frankenstein", "pride_and_prejudice", "tinyshakespeare", "tinystories", "wizard_of_oz")


def spm_metadata(*extra: tuple[str, float, int], **keys: Any) -> dict[str, Any]:
    """A SentencePiece vocabulary: <unk>, <s>, </s>, 256 bytes, some words, then ``extra``."""
    tokens: list[tuple[str, float, int]] = [
        ("<unk>", 0, UNKNOWN),
        ("<s>", 0, CONTROL),
        ("</s>", 0, CONTROL),
        *((f"<0x{byte:02X}>", 0, BYTE) for byte in range(256)),
    ]
    pieces = ["▁a", "he", "▁the", "▁t", "ll", "llo", "hello", "▁hello", "aa", "aaaa", "▁▁"]
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz", "é"]
    words = [*pieces, *letters]
    tokens += [(word, -float(rank), NORMAL) for rank, word in enumerate(words)]
    tokens += extra
    texts, scores, types = map(list, zip(*tokens, strict=True))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
    } | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def byte_alphabet() -> list[str]:
    """GPT-2's character for each byte, written out apart from the code under test."""
    visible = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    shifted = iter(range(256, 512))
    return [chr(byte) if byte in visible else chr(next(shifted)) for byte in range(256)]


def bpe_metadata(*extra: tuple[str, int], **keys: Any) -> dict[str, Any]:
    """A byte-level BPE vocabulary: 256 bytes, some merges, <|endoftext|>, then ``extra``."""
    merges = ["h e", "l l", "he ll", "hell o", "Ġ hello", "Ã ©", "1 2", "12 3", "a a", "aa aa"]
    texts = [*byte_alphabet(), *(merge.replace(" ", "") for merge in merges)]
    tokens = [*((text, NORMAL) for text in texts), ("<|endoftext|>", CONTROL), *extra]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [text for text, _ in tokens],
        "tokenizer.ggml.token_type": [kind for _, kind in tokens],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": len(texts),
    } | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def gemma4_metadata(*extra: tuple[str, int], **keys: Any) -> dict[str, Any]:
    """A vocabulary like Gemma 4's: merges of characters, spaces as ▁, bytes as a fallback."""
    merges = ["\n \n", "▁ ▁", "h e", "l l", "he ll", "hell o", "▁ hello"]
    letters = ["▁", "\n", *"abcdefghijklmnopqrstuvwxyz"]
    tokens = [("<eos>", CONTROL), ("<bos>", CONTROL)]
    tokens += [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    tokens += [(text, NORMAL) for text in letters]
    tokens += [(merge.replace(" ", ""), NORMAL) for merge in merges]
    tokens += extra
    return {
        "tokenizer.ggml.model": "gemma4",
        "tokenizer.ggml.tokens": [text for text, _ in tokens],
        "tokenizer.ggml.token_type": [kind for _, kind in tokens],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 0,
    } | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def bert_metadata(*extra: tuple[str, int], **keys: Any) -> dict[str, Any]:
    """A WordPiece vocabulary as files spell it: special tokens, some words and what goes on."""
    words = [*"abcdefghijklmnopqrstuvwxyz0123456789!,.'[]<>/é中", "hello", "he", "the", "un", "##"]
    parts = [*"abcdefghijklmnopqrstuvwxyzé", "llo", "able", "ly", "▁"]
    tokens = [(f"[{name}]", CONTROL) for name in ("PAD", "CLS", "SEP", "MASK")]
    tokens += [("▁[UNK]", UNKNOWN)]
    tokens += [(f"▁{word}", NORMAL) for word in words] + [(part, NORMAL) for part in parts]
    tokens += extra
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [text for text, _ in tokens],
        "tokenizer.ggml.token_type": [kind for _, kind in tokens],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.seperator_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 4,
    } | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def unigram_metadata(*extra: tuple[str, float, int], **keys: Any) -> dict[str, Any]:
    """A Unigram vocabulary in the order of XLM-RoBERTa's, with SentencePiece's usual table."""
    tokens: list[tuple[str, float, int]] = [
        ("<s>", 0, CONTROL),
        ("<pad>", 0, CONTROL),
        ("</s>", 0, CONTROL),
        ("<unk>", 0, UNKNOWN),
    ]
    words = ["▁", "▁a", "he", "▁the", "llo", "hello", "▁hello", *"abcdefghijklmnopqrstuvwxyz.!é中"]
    tokens += [(word, -2.0 - rank / 4, NORMAL) for rank, word in enumerate(words)]
    tokens += extra
    texts, scores, types = map(list, zip(*tokens, strict=True))
    return {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.precompiled_charsmap": np.frombuffer(usual_charsmap(), np.uint8),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
    } | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


@cache
def trained(**options: Any) -> bytes:
    """A small SentencePiece model of words and letters, trained with ``options``."""
    from sentencepiece import SentencePieceTrainer

    rng = np.random.default_rng(0)
    texts = [random_text(rng, pieces=8) for _ in range(400)]
    sentences = ["".join(filter(lambda char: " " <= char < "\u0500", text)) for text in texts]
    sentences += ["hello the world of unaffable llamas"] * 20
    model = io.BytesIO()
    SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=3,
        **{"vocab_size": 1000, "character_coverage": 0.98} | options,
    )
    return model.getvalue()


@cache
def usual_charsmap() -> bytes:
    """The table ``nmt_nfkc``, which nearly all models have."""
    return proto_metadata(trained(vocab_size=600))["tokenizer.ggml.precompiled_charsmap"].tobytes()


def proto_metadata(model: bytes) -> dict[str, Any]:
    """What a converter writes for a SentencePiece model, of either kind."""
    parts = list(_fields(model))
    pieces = [dict(_fields(value)) for number, value in parts if number == 1]
    trainer, spec = (dict(_fields(dict(parts)[number])) for number in (2, 3))
    metadata = {
        "tokenizer.ggml.model": "t5" if trainer.get(3, 1) == 1 else "llama",
        "tokenizer.ggml.tokens": [piece[1].decode() for piece in pieces],
        "tokenizer.ggml.scores": [piece.get(2, 0.0) for piece in pieces],
        "tokenizer.ggml.token_type": [piece.get(3, NORMAL) for piece in pieces],
        "tokenizer.ggml.add_space_prefix": bool(spec.get(3, True)),
        "tokenizer.ggml.remove_extra_whitespaces": bool(spec.get(4, True)),
    }
    if spec.get(2):
        metadata["tokenizer.ggml.precompiled_charsmap"] = np.frombuffer(spec[2], np.uint8)
    return metadata


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protobuf message: int, float or bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
            continue
        size = varint() if kind == 2 else 4
        value, at = message[at : at + size], at + size
        yield number, value if kind == 2 else struct.unpack("<f", value)[0]


def made(metadata: dict[str, Any]) -> Tokenizer:
    tokenizer = from_gguf(metadata)
    assert tokenizer is not None
    return tokenizer


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[bytes]:
    return [tokenizer.piece(token) for token in ids]


@cache
def loaded(path: Path) -> Tokenizer:
    """The tokenizer of a GGUF file."""
    with GGUFFile.open(path) as file:
        return made(dict(file.metadata))


def sentencepiece_metadata(path: Path) -> dict[str, Any]:
    """What a converter would write for a SentencePiece model without user-defined tokens."""
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor(model_file=str(path))

    def kind(token: int) -> int:
        if model.is_unknown(token):
            return UNKNOWN
        if model.is_control(token):
            return CONTROL
        if model.is_unused(token):
            return UNUSED
        return BYTE if model.is_byte(token) else NORMAL

    ids = range(model.get_piece_size())
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [model.id_to_piece(token) for token in ids],
        "tokenizer.ggml.scores": [model.get_score(token) for token in ids],
        "tokenizer.ggml.token_type": [kind(token) for token in ids],
    }


def llama_cpp_cases(vocabulary: Path) -> list[tuple[str, list[int]]]:
    """The texts and ids beside one of llama.cpp's vocabularies, read as its own test does."""
    texts = vocabulary.with_name(vocabulary.name + ".inp").read_bytes().decode()
    ids = vocabulary.with_name(vocabulary.name + ".out").read_text().splitlines()
    separated = texts.split("\n__ggml_vocab_test__\n")
    return [
        (text, [int(token) for token in line.split()])
        for text, line in zip(separated, ids, strict=False)  # a separator ends the texts
    ]


def goldens(kind: str, vocabulary: str) -> list[tuple[str, list[int]]]:
    """The shared goldens: a text a line with escapes, or (utf8) one text."""
    folder = FOLDER / "goldens"
    text = (folder / f"{kind}_input.txt").read_bytes().decode()
    wanted = (folder / f"{kind}_tokens_{vocabulary}.txt").read_text()
    ids = [json.loads(f"[{line}]") for line in wanted.split("\n")]
    if kind == "utf8":
        return [(text, ids[0])]
    texts = [line.replace("\\n", "\n").replace("\\s", " ") for line in text.split("\n")]
    return list(zip(texts, ids, strict=True))


def rwkv_metadata(*extra: tuple[str, int], **keys: Any) -> dict[str, Any]:
    """A vocabulary like RWKV's: <s>, all bytes, some longer tokens, then ``extra``."""
    words = [b"he", b"hello", b"hello wor", b" hello", b"\n\n", b"aa", b"a" * 13, b"\xc3\xa9t"]
    words += ["é".encode(), b"\\n", b"\xff\xfe", b"'\""]
    texts = [repr(word)[2:-1] for word in [*(bytes((byte,)) for byte in range(256)), *words]]
    tokens = [("<s>", CONTROL), *((text, NORMAL) for text in texts), *extra]
    return {
        "tokenizer.ggml.model": "rwkv",
        "tokenizer.ggml.tokens": [text for text, _ in tokens],
        "tokenizer.ggml.token_type": [kind for _, kind in tokens],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
    } | {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


def world_metadata(path: Path) -> dict[str, Any]:
    """What llama.cpp's converter writes for ``rwkv_vocab_v20230424.txt``: 65,536 tokens."""
    texts = ["<s>", *(repr(token)[2:-1] for token in world_tokens(path))]
    padding = [f"[PAD{token}]" for token in range(len(texts), 1 << 16)]
    types = [CONTROL] + [NORMAL] * (len(texts) - 1) + [UNUSED] * len(padding)
    return {
        "tokenizer.ggml.model": "rwkv",
        "tokenizer.ggml.tokens": texts + padding,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.eot_token_id": 261,
    }


def world_tokens(path: Path) -> list[bytes]:
    """The tokens of RWKV's own list, from id 1: lines of an id, a Python literal and a size."""
    tokens = []
    for line in path.read_text("utf-8").splitlines():
        literal = ast.literal_eval(line[line.index(" ") : line.rindex(" ")].strip())
        tokens.append(literal.encode() if isinstance(literal, str) else literal)
    return tokens
