"""The ``tokenizers`` library and Motet on random texts.

``python -m tests.huggingface.fuzz_tokenizers``:

``--count`` texts (10,000) of each kind of ``tokenizer.json``; ``--models`` the folder ``models`` of
a llama.cpp checkout, for the real vocabularies of Llama 3, Qwen 2 and others.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motet.tokenizer import Tokenizer
from tests.huggingface.tokenizer_jsons import (
    CL100K,
    KINDS,
    QWEN2,
    Case,
    byte_level,
    in_order,
    of_gguf,
    split,
)
from tests.tokenizer.texts import random_text

_NFC = {"type": "NFC"}
_DIGITS = {"type": "Digits", "individual_digits": True}
_FALCON = in_order(
    {"type": "Punctuation", "behavior": "Contiguous"},
    byte_level(True),
    {"type": "Digits", "individual_digits": False},
    split("[0-9][0-9][0-9]"),
)
_REAL: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "llama-bpe": (in_order(split(CL100K), byte_level()), None, {"ignore_merges": True}),
    "qwen2": (in_order(split(QWEN2), byte_level()), _NFC, {}),
    "starcoder": (in_order(_DIGITS, byte_level(True)), None, {}),
    "refact": (in_order(_DIGITS, byte_level(True)), None, {}),
    "command-r": (in_order(_DIGITS, byte_level(True)), _NFC, {}),
    "falcon": (_FALCON, None, {}),
    "gpt-2": (byte_level(True), None, {}),
}
"""llama.cpp's vocabularies, with what their models' own files do before merging."""


@dataclass
class Comparison:
    """Texts whose ids, or whose decoded text, differ; ``known``: for documented reasons."""

    ids: list[str]
    decoded: list[str]
    known: int = 0


def compared(case: Case, ours: Tokenizer, count: int, seed: int) -> Comparison:
    """Both on ``count`` random texts, special tokens spelt out in half of them, and back."""
    library = case.library()
    normalized = _normalizations(case)
    random = np.random.default_rng(seed)
    found = Comparison([], [])
    for _ in range(count):
        text = random_text(random, case.spellings())
        theirs, ids = library.encode(text).ids, ours.encode(text, parse_special=True)
        if theirs != ids:
            if _is_known(text, normalized) or _is_tie(case, theirs, ids):
                found.known += 1
            else:
                found.ids.append(text)
        plain = random_text(random)
        ids = ours.encode(plain, add_special=False)
        if set(ids) & ours.special:
            continue
        if library.decode(ids, skip_special_tokens=False) != ours.decode(ids):
            found.decoded.append(plain)
    return found


def _normalizations(case: Case) -> list[Callable[[str], str]]:
    """How the library, and SentencePiece, replace characters; none where nothing is replaced."""
    from sentencepiece import SentencePieceNormalizer
    from tokenizers import normalizers

    from motet.tokenizer.protobuf import message

    table = _charsmap(case.tokenizer["normalizer"])
    if table is None:
        return []
    library = normalizers.Precompiled(table)
    model = message(3, message(1, b"file") + message(2, table))
    sentencepiece = SentencePieceNormalizer(
        model_proto=model,
        add_dummy_prefix=False,
        escape_whitespaces=False,
        remove_extra_whitespaces=False,
    )
    return [library.normalize_str, sentencepiece.normalize]


def _charsmap(normalizer: Any) -> bytes | None:
    import base64

    steps = [normalizer] if normalizer else []
    steps += (normalizer or {}).get("normalizers", [])
    tables = [step["precompiled_charsmap"] for step in steps if step["type"] == "Precompiled"]
    return base64.b64decode(tables[0]) if tables else None


def _is_known(text: str, normalizations: list[Callable[[str], str]]) -> bool:
    """Whether the library reads the table of characters otherwise, or takes U+0085 for a space.

    A spelt U+2581 is a space to the one where spaces are joined, and not to the other.
    """
    if not normalizations:
        return False
    first, second = (normalize(text) for normalize in normalizations)
    return first != second or "\x85" in text or "▁" in text


def _is_tie(case: Case, theirs: list[int], ours: list[int]) -> bool:
    """Whether scores have the same sum, which SentencePiece adds in 32 bits."""
    if case.tokenizer["model"]["type"] != "Unigram":
        return False
    scores = np.array([score for _, score in case.tokenizer["model"]["vocab"]], np.float32)
    return bool(np.isclose(scores[theirs].sum(), scores[ours].sum(), rtol=1e-6))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--models", type=Path)
    parser.add_argument("kinds", nargs="*")
    options = parser.parse_args()
    cases = dict(KINDS)
    for name, (steps, normalizer, flags) in _REAL.items() if options.models else ():
        path = options.models / f"ggml-vocab-{name}.gguf"
        cases[f"{name} (real)"] = lambda p=path, n=name, s=steps, z=normalizer, f=flags: of_gguf(
            p, n, s, z, **f
        )
    for name in options.kinds or cases:
        case = cases[name]()
        with tempfile.TemporaryDirectory() as folder:
            ours = case.ours(Path(folder))
        found = compared(case, ours, options.count, options.seed)
        print(
            f"{name:18} {options.count} texts: {len(found.ids)} with other ids, {found.known} for "
            f"known reasons, {len(found.decoded)} decoded otherwise",
            *map(repr, [*found.ids[:3], *found.decoded[:3]]),
            sep="\n    ",
            flush=True,
        )


if __name__ == "__main__":
    main()
