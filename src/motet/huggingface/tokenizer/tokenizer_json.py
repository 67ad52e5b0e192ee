"""``tokenizer.json``: what the ``tokenizers`` library does with text, said in GGUF's keys."""

from collections.abc import Mapping
from typing import Any

from motet.errors import UnsupportedError, shown
from motet.huggingface.tokenizer.added_tokens import AddedToken
from motet.huggingface.tokenizer.bpe import read_bpe
from motet.huggingface.tokenizer.description import Description, Draft
from motet.huggingface.tokenizer.unigram import read_unigram
from motet.huggingface.tokenizer.wordpiece import read_wordpiece

_READERS = {"BPE": read_bpe, "Unigram": read_unigram, "WordPiece": read_wordpiece}


def read_tokenizer_json(
    content: Mapping[str, Any],
    where: str,
    architecture: str,
    n_vocab: int,
    added: Mapping[int, AddedToken],
) -> Draft:
    """The vocabulary that a ``tokenizer.json`` of this ``content`` describes.

    Byte-level BPE becomes GGUF's ``gpt2``, BPE on characters ``llama`` (``gemma4`` for that
    architecture), Unigram ``t5``, WordPiece ``bert``. ``added``: the directory's added tokens.

    Raises TokenizerError for a damaged one; UnsupportedError for one that Motet would cut text
    otherwise than, naming what differs.
    """
    model = content.get("model")
    kind = model.get("type", _kind(model)) if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind not in _READERS:
        raise UnsupportedError(
            f"{where}: the model {shown(kind)} is not supported",
            hint="supported are BPE, Unigram and WordPiece",
        )
    description = Description(
        where,
        architecture,
        n_vocab,
        added,
        model,
        content.get("normalizer"),
        content.get("pre_tokenizer"),
    )
    draft = _READERS[kind](description)
    _check_places(content, description)
    return draft


def _kind(model: Mapping[str, Any]) -> str | None:
    """Of files from before models said it."""
    return "BPE" if "merges" in model else None


def _check_places(content: Mapping[str, Any], description: Description) -> None:
    """The library numbers added tokens itself: a new one follows the last; the file must agree."""
    vocab = description.model["vocab"]
    ids = vocab if isinstance(vocab, dict) else {entry[0]: i for i, entry in enumerate(vocab)}
    last = -1
    for entry in content.get("added_tokens") or ():
        text, index = entry["content"], entry["id"]
        given = ids.get(text, max(last + 1, len(ids)))
        if index != given:
            raise description.damaged(
                f"has the added token {shown(text)} at id {index}, where the tokenizers library "
                f"puts it at {given}"
            )
        last = max(last, index)
