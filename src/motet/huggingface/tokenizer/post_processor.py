"""What a ``tokenizer.json`` puts around texts and between the two of a pair."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from motet.errors import TokenizerError, UnsupportedError, shown
from motet.huggingface.tokenizer.pre_tokenizers import steps


@dataclass(frozen=True)
class Around:
    """Ids before and after a text; ``between``: those between the texts of a pair, if it says."""

    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    between: tuple[int, ...] | None = None


def read_post_processor(processor: Any, where: str) -> Around | None:
    """None if there is none that adds tokens.

    Raises TokenizerError for a damaged one, UnsupportedError for one of another kind.
    """
    adding = [
        found
        for step in steps(processor, "processors")
        if (found := _read(step, where)) is not None
    ]
    if len(adding) > 1:
        raise UnsupportedError(f"{where}: two post-processors that add tokens are not supported")
    return adding[0] if adding else None


def _read(step: Mapping[str, Any], where: str) -> Around | None:
    match step.get("type"):
        case "ByteLevel":
            return None
        case "BertProcessing" | "RobertaProcessing" as kind:
            start, end = (_id(step, key, where) for key in ("cls", "sep"))
            return Around((start,), (end,), (end,) if kind == "BertProcessing" else (end, end))
        case "TemplateProcessing":
            return _template(step, where)
        case kind:
            raise UnsupportedError(f"{where}: the post-processor {shown(kind)} is not supported")


def _template(processor: Mapping[str, Any], where: str) -> Around:
    single = _pieces(processor, "single", where)
    pair = _pieces(processor, "pair", where)
    if single.count("A") != 1 or "B" in single:
        raise _damaged(where, f"has the template {shown(processor.get('single'))}")
    cut = single.index("A")
    prefix, suffix = _only_ids(single[:cut]), _only_ids(single[cut + 1 :])
    if pair.count("A") != 1 or pair.count("B") != 1 or pair.index("B") < pair.index("A"):
        return Around(prefix, suffix)
    first, second = pair.index("A"), pair.index("B")
    same_ends = (*pair[:first],) == prefix and (*pair[second + 1 :],) == suffix
    return Around(prefix, suffix, _only_ids(pair[first + 1 : second]) if same_ends else None)


def _pieces(processor: Mapping[str, Any], key: str, where: str) -> list[int | str]:
    """Ids, and "A" and "B" for the texts."""
    known = processor.get("special_tokens")
    pieces: list[int | str] = []
    template = processor.get(key)
    for piece in template if isinstance(template, list) else ():
        match piece:
            case {"Sequence": {"id": "A" | "B" as text}}:
                pieces.append(text)
            case {"SpecialToken": {"id": str(name)}} if isinstance(known, dict):
                ids = known[name].get("ids") if isinstance(known.get(name), dict) else None
                if not isinstance(ids, list) or not all(type(index) is int for index in ids):
                    raise _damaged(where, f"has no ids of the special token {shown(name)}")
                pieces += ids
            case _:
                raise _damaged(where, f"has {shown(piece)} in a template")
    return pieces


def _only_ids(pieces: list[int | str]) -> tuple[int, ...]:
    return tuple(piece for piece in pieces if isinstance(piece, int))


def _id(processor: Mapping[str, Any], key: str, where: str) -> int:
    match processor.get(key):
        case [str(), int(index)]:
            return index
        case value:
            raise _damaged(where, f"has {key} {shown(value)}, must be a token and its id")


def _damaged(where: str, problem: str) -> TokenizerError:
    return TokenizerError(f"{where} {problem}", hint="fetch the directory again")
