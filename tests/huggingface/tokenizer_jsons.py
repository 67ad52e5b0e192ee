"""``tokenizer.json`` files of the kinds in use, from real vocabularies and from small texts."""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from motet.huggingface.files import Directory
from motet.huggingface.tokenizer.reading import read_tokenizer
from motet.tokenizer import Tokenizer
from motet.weights.gguf import GGUFFile
from tests.tokenizer.texts import random_text
from tests.tokenizer.vocabularies import BYTE, FOLDER, made, proto_metadata, trained

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = CL100K.replace("{1,3}", "")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPACE = "▁"


@dataclass
class Case:
    """A directory's tokenizer files, and what Motet should say of them."""

    name: str
    architecture: str
    tokenizer: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    pre: str = "default"

    def written(self, folder: Path) -> Directory:
        (folder / "tokenizer.json").write_text(json.dumps(self.tokenizer), "utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(self.config), "utf-8")
        return Directory(str(folder))

    def n_vocab(self) -> int:
        vocab = self.tokenizer["model"]["vocab"]
        ids = vocab.values() if isinstance(vocab, dict) else range(len(vocab))
        return max(*ids, *(token["id"] for token in self.tokenizer["added_tokens"]), 0) + 1

    def read(self, folder: Path, extra: int = 0) -> dict[str, Any]:
        return read_tokenizer(self.written(folder), self.architecture, self.n_vocab() + extra)

    def ours(self, folder: Path) -> Tokenizer:
        return made({"general.architecture": self.architecture} | self.read(folder))

    def library(self) -> Any:
        from tokenizers import Tokenizer as Library

        return Library.from_str(json.dumps(self.tokenizer))

    def spellings(self) -> list[str]:
        return [token["content"] for token in self.tokenizer["added_tokens"]][:40]


def added(content: str, index: int, special: bool = True, **flags: bool) -> dict[str, Any]:
    usual = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": content, "special": special} | usual | flags


def template(ids: dict[str, int], prefix: str = "", suffix: str = "") -> dict[str, Any]:
    """A post-processor that puts single tokens before and after; ``ids``: of all of them."""

    def special(text: str) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": text, "type_id": 0}}] if text else []

    first, second = ({"Sequence": {"id": text, "type_id": 0}} for text in "AB")
    start, end = special(prefix), special(suffix)
    return {
        "type": "TemplateProcessing",
        "single": [*start, first, *end],
        "pair": [*start, first, *end, second, *end],
        "special_tokens": {
            text: {"id": text, "ids": [index], "tokens": [text]} for text, index in ids.items()
        },
    }


def split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    shape = {"pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}
    return {"type": "Split"} | shape


def byte_level(use_regex: bool = False) -> dict[str, Any]:
    shape = {"add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}
    return {"type": "ByteLevel"} | shape


def in_order(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": [*steps]}


def whole(
    model: dict[str, Any], tokens: Iterable[dict[str, Any]] = (), **parts: Any
) -> dict[str, Any]:
    """A ``tokenizer.json``."""
    usual = dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return {"version": "1.0", "added_tokens": [*tokens]} | usual | parts | {"model": model}


def bpe(vocab: dict[str, int], merges: list[Any], **flags: Any) -> dict[str, Any]:
    return {"type": "BPE", "vocab": vocab, "merges": merges} | flags


@cache
def some_texts() -> list[str]:
    rng = np.random.default_rng(1)
    return [random_text(rng, pieces=10) for _ in range(1500)] + ["hello 12345 the world"] * 9


def trained_byte_level(pre_tokenizer: dict[str, Any], size: int = 1200) -> dict[str, Any]:
    """Vocabulary and merges of a small byte-level BPE."""
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers, trainers

    library = Library(models.BPE())
    content = json.loads(library.to_str()) | {"pre_tokenizer": pre_tokenizer}
    library = Library.from_str(json.dumps(content))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False, special_tokens=[]
    )
    library.train_from_iterator(some_texts(), trainer)
    return json.loads(library.to_str())["model"]


def small(
    name: str,
    architecture: str,
    pre: str,
    pre_tokenizer: dict[str, Any],
    normalizer: Any = None,
    **flags: Any,
) -> Case:
    """A small byte-level BPE with some special tokens."""
    model = trained_byte_level(pre_tokenizer) | flags
    count = len(model["vocab"])
    tokens = [
        added("<|begin|>", count),
        added("<|end|>", count + 1),
        added("  ", count + 2, special=False),
        added("<think>", count + 3, special=False),
    ]
    start = template({"<|begin|>": count}, "<|begin|>")
    processor = {"type": "Sequence", "processors": [byte_level(), start]}
    content = whole(
        model,
        tokens,
        normalizer=normalizer,
        pre_tokenizer=pre_tokenizer,
        post_processor=processor,
        decoder=byte_level(True),
    )
    return Case(name, architecture, content, {"eos_token": "<|end|>"}, pre)


def llama3(**flags: Any) -> Case:
    steps = in_order(split(CL100K), byte_level())
    return small("llama3", "llama", "llama-bpe", steps, ignore_merges=True, **flags)


def qwen2(**flags: Any) -> Case:
    steps = in_order(split(QWEN2), byte_level())
    return small("qwen2", "qwen2", "qwen2", steps, normalizer={"type": "NFC"}, **flags)


def of_gguf(
    path: Path, name: str, pre_tokenizer: dict[str, Any], normalizer: Any = None, **flags: Any
) -> Case:
    """What the ``tokenizer.json`` of a byte-level vocabulary in a GGUF file was."""
    with GGUFFile.open(path) as file:
        metadata = dict(file.metadata)
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]  # type: ignore[assignment]
    types: list[int] = metadata["tokenizer.ggml.token_type"]  # type: ignore[assignment]
    kinds = [*zip(tokens, types, strict=True)]
    vocab = {text: index for index, (text, kind) in enumerate(kinds) if kind != 5}
    tokens_added = [added(t, i, kind == 3) for i, (t, kind) in enumerate(kinds) if kind in (3, 4)]
    content = whole(
        bpe(vocab, metadata["tokenizer.ggml.merges"], **flags),  # type: ignore[arg-type]
        tokens_added,
        normalizer=normalizer,
        pre_tokenizer=pre_tokenizer,
        decoder=byte_level(True),
    )
    architecture = str(metadata["general.architecture"])
    return Case(name, architecture, content, {}, str(metadata.get("tokenizer.ggml.pre")))


def gpt_neox() -> Case:
    content = json.loads((FOLDER / "gpt-neox.tokenizer.json").read_text("utf-8"))
    return Case("gpt-neox", "gptneox", content, {"eos_token": "<|endoftext|>"}, "olmo")


def bert(lowercase: bool = True) -> Case:
    words = (FOLDER / "bert.vocab.txt").read_text("utf-8").split("\n")
    vocab = {word: index for index, word in enumerate(words) if word}
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    names = ["cls_token", "sep_token", "unk_token", "pad_token", "mask_token"]
    texts = ["[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]"]
    content = whole(
        {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
        [added(text, vocab[text]) for text in sorted(specials, key=vocab.get)],  # type: ignore[arg-type]
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lowercase,
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=template(
            {text: vocab[text] for text in ("[CLS]", "[SEP]")}, "[CLS]", "[SEP]"
        ),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": False},
    )
    return Case("bert", "bert", content, dict(zip(names, texts, strict=True)))


def unigram(name: str, model: bytes, whitespace_split: bool, charsmap: bool = True) -> Case:
    """T5's, in either of the forms that transformers writes."""
    metadata = proto_metadata(model)
    tokens, scores = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.scores"]
    pieces = [[text, score] for text, score in zip(tokens, scores, strict=True)]
    pieces += [[f"<extra_id_{index}>", 0.0] for index in reversed(range(3))]
    table = metadata["tokenizer.ggml.precompiled_charsmap"].tobytes()
    first = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always"}
    metaspace |= {"split": True}
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    join = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE}
    steps = [first] if charsmap else []
    if whitespace_split:
        normalizer: Any = steps[0] if steps else None
        pre_tokenizer = in_order({"type": "WhitespaceSplit"}, metaspace)
    else:
        normalizer, pre_tokenizer = (
            {"type": "Sequence", "normalizers": [*steps, strip, join]},
            metaspace,
        )
    ids = {text: index for index, (text, _) in enumerate(pieces)}
    specials = [text for text in ("<pad>", "</s>", "<unk>", "<s>") if text in ids]
    specials += [text for text in ids if text.startswith("<extra")]
    content = whole(
        {"type": "Unigram", "unk_id": ids["<unk>"], "vocab": pieces, "byte_fallback": False},
        [added(text, ids[text]) for text in sorted(specials, key=ids.__getitem__)],
        normalizer=normalizer,
        pre_tokenizer=pre_tokenizer,
        post_processor=template({"</s>": ids["</s>"]}, suffix="</s>"),
        decoder=metaspace,
    )
    config = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return Case(name, "t5", content, config)


def t5(whitespace_split: bool = True) -> Case:
    return unigram("t5", (FOLDER / "t5.spiece.model").read_bytes(), whitespace_split)


def rank_merges(tokens: list[str], scores: list[float], types: list[int]) -> list[list[str]]:
    """Merges in the order of the scores of what they make, as transformers takes them."""
    vocab = {
        text: index
        for index, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind == 1
    }
    found = []
    for text, index in vocab.items():
        pairs = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        pairs = [(a, b) for a, b in pairs if a in vocab and b in vocab]
        pairs.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        found += [(-scores[index], pair) for pair in pairs]
    found.sort(key=lambda item: item[0])
    return [list(pair) for _, pair in found]


def characters(name: str, model: Path, prefix: bool, architecture: str = "llama") -> Case:
    """Llama 2's (with ``prefix``) or Gemma's ``tokenizer.json``, of a SentencePiece model."""
    metadata = proto_metadata(model.read_bytes())
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    scores = metadata["tokenizer.ggml.scores"]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    specials = [index for index, kind in enumerate(types) if kind in (2, 3)]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoder = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        *([strip] if prefix else []),
    ]
    vocab = {text: index for index, text in enumerate(tokens)}
    content = whole(
        bpe(
            vocab,
            rank_merges(tokens, scores, types),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=BYTE in types,
        ),
        [added(tokens[index], index) for index in specials],
        normalizer={"type": "Sequence", "normalizers": [*steps, replace]},
        pre_tokenizer=None
        if prefix
        else {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        post_processor=template({"<s>": vocab["<s>"]}, "<s>"),
        decoder={"type": "Sequence", "decoders": decoder},
    )
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return Case(name, architecture, content, config)


def llama2() -> Case:
    return characters("llama2", FOLDER / "llama2.tokenizer.model", prefix=True)


def gemma() -> Case:
    return characters("gemma", FOLDER / "llama2.tokenizer.model", False, "gemma2")


def small_unigram(whitespace_split: bool) -> Case:
    return unigram("small t5", trained(pad_id=3), whitespace_split)


KINDS: dict[str, Callable[[], Case]] = {
    "llama3": llama3,
    "qwen2": qwen2,
    "gpt-neox": gpt_neox,
    "bert": bert,
    "bert-cased": lambda: bert(False),
    "t5": t5,
    "t5-new": lambda: t5(False),
    "small-t5": lambda: small_unigram(True),
    "llama2": llama2,
    "gemma": gemma,
}
"""Kind -> its files; those with real vocabularies need the shared data."""
