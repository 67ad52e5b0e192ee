"""Vocabularies by strangers, and texts of every kind: a tokenizer that keeps its laws, or an error.

Whatever a file says, ids are in the vocabulary, parts decode as the whole, and what an error says
fits on a screen. An undamaged vocabulary gives a text back unless strictness says that it cannot;
one that normalises text gives back what is read as the same ids.
"""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from motet.errors import MotetError
from motet.tokenizer import IncrementalDecoder, Tokenizer, from_gguf
from motet.tokenizer.pretokenizers import BY_NAME
from motet.weights.gguf import GGUFFile
from tests.hostile import harness
from tests.shared import SHARED
from tests.tokenizer import vocabularies
from tests.tokenizer.texts import random_text

Metadata = dict[str, Any]
_KEY = "tokenizer.ggml."
_MAKERS = (
    vocabularies.spm_metadata,
    vocabularies.unigram_metadata,
    vocabularies.bert_metadata,
    vocabularies.bpe_metadata,
    vocabularies.gemma4_metadata,
    vocabularies.rwkv_metadata,
)
_REAL = (
    "stories260K/stories260K-F32.gguf",
    "tokenizers/ggml-vocab-llama-spm.gguf",
    "tokenizers/ggml-vocab-gpt-2.gguf",
    "tokenizers/ggml-vocab-gpt-neox.gguf",
    "tokenizers/ggml-vocab-bert-bge.gguf",
)
_SPELLINGS = ("<s>", "</s>", "<|endoftext|>", "<tag>", "<|end|>", "<unk>", "<0x0A>", "<bos>")
_LONG = 50_000
"""Characters of a long text: what takes quadratic time takes hours for it."""
_RUNS = (*"aA \n1\0\u0301🦙中▁<", "aA", "a\u0301", "<s>", "'s")
_NAMES = ("bos", "eos", "unknown", "padding", "seperator", "cls", "mask", "eot", "eom", "fim_pad")
_FLAGS = (
    *("add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix"),
    *("remove_extra_whitespaces", "normalizer.lowercase", "normalizer.strip_accents"),
)


def case(random: np.random.Generator) -> None:
    metadata = _base(random)
    damaged = random.random() < 0.7
    if damaged:
        for _ in range(int(random.integers(1, 4))):
            mutation = _MUTATIONS[int(random.integers(len(_MUTATIONS)))]
            mutation(random, metadata)
    try:
        tokenizer = from_gguf(metadata)
    except MotetError as error:
        assert "\n" not in str(error) and len(str(error)) < 800, str(error)[:2000]
        assert damaged, error
        raise
    if tokenizer is None:
        return
    spellings = [_name(random, metadata) for _ in range(4)] + list(_SPELLINGS)
    for _ in range(8):
        _check(random, tokenizer, random_text(random, spellings, pieces=20), damaged)
    if random.random() < 0.05:
        run = _RUNS[int(random.integers(len(_RUNS)))]
        _check(random, tokenizer, run * (_LONG // len(run)), damaged)
    some = random.integers(-1, tokenizer.n_vocab + 1, size=20).tolist()
    _check_ids(tokenizer, [token for token in some if 0 <= token < tokenizer.n_vocab])


def _check(random: np.random.Generator, tokenizer: Tokenizer, text: str, damaged: bool) -> None:
    parse = bool(random.integers(2))
    ids = tokenizer.encode(text, add_special=False, parse_special=parse)
    assert all(0 <= token < tokenizer.n_vocab for token in ids)
    assert ids == tokenizer.encode(text, add_special=False, parse_special=parse)
    _check_ids(tokenizer, ids)
    try:
        strict = tokenizer.encode(text, add_special=False, parse_special=parse, strict=True)
    except MotetError as error:
        assert len(str(error)) < 300, error
        return
    assert strict == ids
    if damaged or tokenizer.unk in ids:  # a space after an unknown token may be one that is added
        return
    if tokenizer.kind in ("t5", "bert"):
        again = tokenizer.encode(tokenizer.decode(ids), add_special=False, parse_special=parse)
        assert again == ids
    elif tokenizer.kind in ("gpt2", "rwkv"):
        assert tokenizer.decode(ids) in (text, _composed(text))
    else:
        assert tokenizer.decode(ids) == text.replace("▁", " ")


def _check_ids(tokenizer: Tokenizer, ids: list[int]) -> None:
    whole = tokenizer.decode(ids)
    decoder = IncrementalDecoder(tokenizer)
    assert "".join(map(decoder.push, ids)) + decoder.flush() == whole
    pieces = b"".join(map(tokenizer.piece, ids)).decode("utf-8", "replace")
    assert len(whole) <= len(pieces)


def _composed(text: str) -> str:
    from tokenizers import normalizers

    return normalizers.NFC().normalize_str(text)


@cache
def _real(name: str) -> Metadata:
    with GGUFFile.open(SHARED / name) as file:
        metadata: Metadata = dict(file.metadata)
    for key in ("tokens", "merges", "scores", "token_type"):
        if _KEY + key in metadata:
            metadata[_KEY + key] = list(metadata[_KEY + key])
    return metadata


def _base(random: np.random.Generator) -> Metadata:
    """A small vocabulary of any kind, or, seldom, a real one."""
    if SHARED.is_dir() and random.random() < 0.05:
        metadata = copy.copy(_real(_REAL[int(random.integers(len(_REAL)))]))
        return {k: list(v) if isinstance(v, list) else v for k, v in metadata.items()}
    metadata = _MAKERS[int(random.integers(len(_MAKERS)))]()
    if metadata[_KEY + "model"] == "gpt2":
        metadata[_KEY + "pre"] = random.choice(list(BY_NAME)).item()
        metadata[_KEY + "bos_token_id"] = 0
    return metadata


def _name(random: np.random.Generator, metadata: Metadata) -> str:
    """The spelling of some token, if that is text."""
    tokens = metadata.get(_KEY + "tokens")
    token = tokens[int(random.integers(len(tokens)))] if isinstance(tokens, list) and tokens else ""
    return token if isinstance(token, str) and token.isprintable() else "x"


def _odd_string(random: np.random.Generator) -> str:
    """What a vocabulary may hold to do harm."""
    kind = int(random.integers(10))
    if kind == 0:
        return ""
    if kind == 1:
        return "\0" * int(random.integers(1, 3)) + "a" * int(random.integers(2))
    if kind == 2:
        return bytes(random.integers(128, 256, size=2).tolist()).decode("utf-8", "surrogateescape")
    if kind == 3:
        return random.choice(["\ud800", "\\", "\\x", "\\n", "<0x0A>", "<0xZZ>", "<0x", "▁", " "])
    if kind == 4:
        return random.choice(list("a<\u0301▁ ")).item() * int(
            random.choice([2, 300, 2000, 100_000])
        )
    if kind == 5:
        return random.choice(list(_SPELLINGS)).item()
    return random_text(random, _SPELLINGS, pieces=3)


def _odd_value(random: np.random.Generator) -> Any:
    values = [
        None,
        True,
        -1,
        0,
        1,
        5,
        2**31,
        2**64,
        1.5,
        float("nan"),
        "",
        "x",
        [],
        [1],
        ["a"],
        [[1]],
    ]
    return values[int(random.integers(len(values)))]


def _places(random: np.random.Generator, size: int) -> list[int]:
    return random.integers(size, size=int(random.choice([1, 1, 3, 30]))).tolist() if size else []


def _array(metadata: Metadata, name: str) -> list[Any]:
    value = metadata.get(_KEY + name)
    return value if isinstance(value, list) else []


def _odd_tokens(random: np.random.Generator, metadata: Metadata) -> None:
    tokens = _array(metadata, "tokens")
    for place in _places(random, len(tokens)):
        tokens[place] = _odd_string(random)


def _twice(random: np.random.Generator, metadata: Metadata) -> None:
    tokens = _array(metadata, "tokens")
    for place in _places(random, len(tokens)):
        tokens[place] = tokens[int(random.integers(len(tokens)))]


def _odd_types(random: np.random.Generator, metadata: Metadata) -> None:
    types = _array(metadata, "token_type")
    wrong = [0, 1, 2, 3, 4, 5, 6] if random.random() < 0.9 else [-1, 7, 2**40, 1.5, "a"]
    for place in _places(random, len(types)):
        types[place] = wrong[int(random.integers(len(wrong)))]


def _one_type(random: np.random.Generator, metadata: Metadata) -> None:
    size = len(_array(metadata, "token_type"))
    metadata[_KEY + "token_type"] = [int(random.integers(7))] * size


def _odd_scores(random: np.random.Generator, metadata: Metadata) -> None:
    size = len(_array(metadata, "scores"))
    if not size:
        return
    kind = int(random.integers(5))
    scores = random.normal(size=size).astype(np.float32)
    if kind == 0:
        scores[:] = 0
    if kind == 1:
        scores *= np.float32(1e37)
    if kind == 2:
        scores[int(random.integers(size))] = np.nan
    metadata[_KEY + "scores"] = scores if random.random() < 0.5 else scores.tolist()


def _odd_charsmap(random: np.random.Generator, metadata: Metadata) -> None:
    """A table of replacements with other bytes, other steps, another end, or of noise."""
    octets = np.frombuffer(vocabularies.usual_charsmap(), np.uint8).copy()
    size = int.from_bytes(octets[:4].tobytes(), "little")
    kind = int(random.integers(4))
    if kind == 0:
        octets[_places(random, len(octets))] = random.integers(256)
    elif kind == 1:
        octets = octets[: int(random.integers(1, len(octets)))]
    elif kind == 2:
        units = octets[4 : 4 + size].view("<u4")
        for place in _places(random, len(units)):
            units[place] = units[place] & 0x7FF | int(random.integers(len(units))) << 10
    else:  # steps, ends and values at random, but within the table
        count = 256 * int(random.integers(1, 4))
        units = (
            random.integers(count, size=count) << 10 | random.integers(512, size=count)
        ).astype("<u4")
        values = random.random(count) < 0.3
        units[values] = 1 << 31 | random.integers(100, size=int(values.sum()))
        texts = random.choice(np.frombuffer(b"\0ab \0", np.uint8), size=100)
        head = np.frombuffer((4 * count).to_bytes(4, "little"), np.uint8)
        octets = np.concatenate([head, units.view(np.uint8), texts, np.zeros(1, np.uint8)])
    metadata[_KEY + "precompiled_charsmap"] = octets


def _odd_merges(random: np.random.Generator, metadata: Metadata) -> None:
    merges = _array(metadata, "merges")
    if not merges:
        return
    kind = int(random.integers(6))
    place = int(random.integers(len(merges)))
    if kind == 0:
        random.shuffle(merges)
    elif kind == 1:
        del merges[place]
    elif kind == 2:
        merges.insert(place, merges[int(random.integers(len(merges)))])
    elif kind == 3:
        merges[place] = " ".join(reversed(merges[place].split(" ", 1)))
    elif kind == 4:
        merges.append(f"{_name(random, metadata)} {_name(random, metadata)}")
    else:
        merges[place] = random.choice(["", " ", "a", "a  b", " a b", "a b c", _odd_string(random)])


def _grown(random: np.random.Generator, metadata: Metadata) -> None:
    """Many tokens more, seldom very many."""
    count = int(random.choice([1, 100, 5_000, 100_000], p=[0.4, 0.4, 0.19, 0.01]))
    kind = int(random.integers(7))
    spelt = random.choice(["<|x{}|>", "{}", "▁{}", "[{}", "🦙{}"]).item()
    for name, values in (
        ("tokens", [spelt.format(number) for number in range(count)]),
        ("token_type", [kind] * count),
        ("scores", [float(-number) for number in range(count)]),
    ):
        if isinstance(metadata.get(_KEY + name), list):
            metadata[_KEY + name] += values


def _cut(random: np.random.Generator, metadata: Metadata) -> None:
    name = random.choice(["tokens", "token_type", "scores", "merges"]).item()
    array = _array(metadata, name)
    del array[int(random.integers(len(array) + 1)) :]


def _without_a_key(random: np.random.Generator, metadata: Metadata) -> None:
    keys = sorted(metadata)
    if keys:
        del metadata[keys[int(random.integers(len(keys)))]]


def _without_types_or_scores(random: np.random.Generator, metadata: Metadata) -> None:
    metadata.pop(_KEY + random.choice(["token_type", "scores"]).item(), None)


def _odd_key(random: np.random.Generator, metadata: Metadata) -> None:
    keys = sorted(metadata)
    if keys:
        metadata[keys[int(random.integers(len(keys)))]] = _odd_value(random)


def _odd_special(random: np.random.Generator, metadata: Metadata) -> None:
    name = random.choice(list(_NAMES)).item()
    n_vocab = len(_array(metadata, "tokens"))
    id_ = int(random.choice([0, 1, 5, n_vocab - 1, n_vocab, 2**32 - 1, int(random.integers(300))]))
    metadata[f"{_KEY}{name}_token_id"] = id_


def _odd_flag(random: np.random.Generator, metadata: Metadata) -> None:
    metadata[_KEY + random.choice(list(_FLAGS)).item()] = bool(random.integers(2))


def _other_kind(random: np.random.Generator, metadata: Metadata) -> None:
    metadata[_KEY + "model"] = random.choice(
        ["llama", "t5", "bert", "gpt2", "gemma4", "rwkv"]
    ).item()


def _named(random: np.random.Generator, metadata: Metadata) -> None:
    metadata["general.name"] = random.choice(["Phi-3", "x", ""]).item()
    metadata["general.architecture"] = random.choice(["phi3", "llama", "gptneox"]).item()


_MUTATIONS: tuple[Callable[[np.random.Generator, Metadata], None], ...] = (
    _odd_tokens,
    _twice,
    _odd_types,
    _one_type,
    _odd_scores,
    _odd_charsmap,
    _odd_merges,
    _grown,
    _cut,
    _without_a_key,
    _without_types_or_scores,
    _odd_key,
    _odd_special,
    _odd_flag,
    _other_kind,
    _named,
)

if __name__ == "__main__":
    harness.main(case, __doc__ or "", seconds=60)
