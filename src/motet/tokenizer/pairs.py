"""Query and document as a reranker reads them; texts cut to what a model takes."""

import re
from collections.abc import Sequence

from motet.errors import CapacityError, UnsupportedError
from motet.tokenizer.tokenizer import Tokenizer

TEMPLATE = "rerank"
"""Name of the chat template that rerankers among chat models have (llama.cpp's converter)."""
_PLACES = re.compile(r"\{(query|document)\}")


def cut_text(ids: list[int], most: int, suffix: Sequence[int]) -> list[int]:
    """The first tokens of a text, with the ``suffix`` that ends it, as ``tokenizers`` cuts."""
    kept = list(suffix) if suffix and ids[-len(suffix) :] == list(suffix) else []
    return ids[: max(most - len(kept), 0)] + kept[:most]


def pair_ids(tokenizer: Tokenizer, query: str, document: str, most: int | None) -> list[int]:
    """The ids of a query and a document, cut to ``most`` tokens if that is given.

    By the file's own template, where it has one, else as a cross-encoder reads them. A template's
    pair is cut at the document's end; else the longer of the two is cut, to the length of the other
    before both are (``longest_first`` of the ``tokenizers`` library).

    Raises TokenizerError if the vocabulary has no form for a pair, UnsupportedError for a template
    that has no place for query or document, CapacityError where nothing would be left of them.
    """
    template = tokenizer.chat_templates.get(TEMPLATE)
    if template is not None:
        return _by_template(tokenizer, template, query, document, most)
    first, second = tokenizer.segments(query, document)
    if most is None or len(first) + len(second) <= most:
        return first + second
    begin, end = tokenizer.segments("", "")
    before, after = len(tokenizer.prefix), len(tokenizer.suffix)
    sizes = len(first) - len(begin), len(second) - len(end)
    room = _room(most, len(begin) + len(end))
    kept = _longest_first(*sizes, room)
    first = first[: before + kept[0]] + first[before + sizes[0] :]
    start = len(end) - after
    return first + second[: start + kept[1]] + second[start + sizes[1] :]


def _by_template(
    tokenizer: Tokenizer, template: str, query: str, document: str, most: int | None
) -> list[int]:
    """The template with query and document in their places, as llama.cpp fills them in.

    Special tokens that the template spells are meant; those in query and document are text.
    """
    values = {"query": query, "document": document}
    if {found[1] for found in _PLACES.finditer(template)} != values.keys():
        raise UnsupportedError(
            f"the file's template {TEMPLATE!r} has no place for {{query}} and {{document}}",
            hint="convert the model again, with llama.cpp's converter",
        )
    ids: list[int] = []
    end = 0
    for part in tokenizer.split_special(template):
        if isinstance(part, int):
            ids.append(part)
            continue
        filled = _PLACES.sub(lambda found: values[found[1]], part)
        ids += tokenizer.encode(filled, add_special=False)
        end = len(ids) if "{document}" in part else end
    if most is not None and len(ids) > most:
        room = _room(most, len(ids) - end)
        ids = ids[:room] + ids[end:]
    return ids


def _room(most: int, around: int) -> int:
    if around >= most:
        raise CapacityError(
            f"the tokens around query and document are {around}, and the model takes {most}"
        )
    return most - around


def _longest_first(first: int, second: int, most: int) -> tuple[int, int]:
    """How many tokens are left of two texts."""
    shorter, longer = sorted((first, second))
    if shorter + longer > most:
        longer = max(shorter, most - shorter)
    if shorter + longer > most:
        shorter = most // 2
        longer = most - shorter
    return (shorter, longer) if first <= second else (longer, shorter)
