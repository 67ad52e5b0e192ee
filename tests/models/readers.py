"""Tiny random encoders and rerankers with vocabularies, in files."""

from pathlib import Path
from typing import Any

from motet.models.keys import Keys
from motet.models.registry import family_of
from tests.models import tiny
from tests.tokenizer.vocabularies import CONTROL, bert_metadata, bpe_metadata

RERANK = (
    "<|im_start|>Judge.<|im_end|>\n<Query>: {query}\n<Document>: {document}<|im_end|>\n<|im_start|>"
)


def bert(folder: Path, labels: int = 0, **changes: Any) -> Path:
    """An encoder with a WordPiece vocabulary; with ``labels`` a classifier of so many."""
    changes = {"pooling_type": 4 if labels else 2, "context_length": 32} | changes
    extra = {"cls.weight": (16, 16), "cls.output.weight": (labels, 16)} if labels else {}
    keys = tiny.metadata("bert", **changes) | bert_metadata()
    return _write(folder / f"bert-{labels}.gguf", keys, extra)


def decoder(folder: Path, architecture: str = "qwen3", **changes: Any) -> Path:
    """A model that decodes, with a byte-level vocabulary that puts nothing around texts."""
    keys = tiny.metadata(architecture, **changes) | bpe_metadata()
    return _write(folder / f"{architecture}.gguf", keys, {})


def yes_or_no(folder: Path, template: str = RERANK, name: str = "rerank", **changes: Any) -> Path:
    """A reranker as Qwen3-Reranker is. ``name``: of the template."""
    changes = {"pooling_type": 4, "classifier__output_labels": ["yes", "no"]} | changes
    special = [("<|im_start|>", CONTROL), ("<|im_end|>", CONTROL)]
    keys = tiny.metadata("qwen3", **changes) | bpe_metadata(*special)
    keys |= {"tokenizer.chat_templates": [name], f"tokenizer.chat_template.{name}": template}
    return _write(folder / "reranker.gguf", keys, {"cls.output.weight": (2, 16)})


def _write(path: Path, keys: dict[str, Any], extra: tiny.Shapes) -> Path:
    architecture = keys["general.architecture"]
    n_vocab = len(keys["tokenizer.ggml.tokens"])
    config = family_of(architecture).read_config(Keys(keys, architecture), n_vocab)
    return tiny.write(path, keys, tiny.declare(config)[1] | extra)
