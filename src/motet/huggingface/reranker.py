"""Qwen 3's rerankers: chat models that say "yes" or "no" to a query with a document."""

from motet.errors import ModelFileError
from motet.huggingface.files import Directory

_NAMES = "qwen3-reranker", "qwen3-vl-reranker"
_CLASS = "SequenceClassification"
_README, _CONFIG = "README.md", "config.json"

TEMPLATE = """\
<|im_start|>system
Judge whether the Document meets the requirements based on the Query and the Instruct provided. \
Note that the answer can only be "yes" or "no".<|im_end|>
<|im_start|>user
<Instruct>: Given a web search query, retrieve relevant passages that answer the query
<Query>: {query}
<Document>: {document}<|im_end|>
<|im_start|>assistant
<think>

</think>

"""
"""The form that these models were trained on, from their model cards."""


def is_qwen3_reranker(files: Directory) -> bool:
    """Whether a directory with Qwen 3's architecture is a reranker.

    Nothing in most of them says it but the name, so it is looked for as llama.cpp's converter does:
    in the README's titles, the directory's name and ``config.json``.
    """
    config = files.json_if_there(_CONFIG)
    classes = config.get("architectures")
    if isinstance(classes, list) and classes and _CLASS in str(classes[0]):
        return True
    hints = [files.path.rstrip("/").rpartition("/")[2], config.get("_name_or_path", "")]
    if any(name in str(hint).lower() for name in _NAMES for hint in hints):
        return True
    return any(f"# {name}" in _readme(files) for name in _NAMES)


def _readme(files: Directory) -> str:
    try:
        return files.text(_README).lower() if files.has(_README) else ""
    except ModelFileError:  # for people: it need not be sound
        return ""
