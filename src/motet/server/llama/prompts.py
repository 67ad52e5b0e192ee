"""Prompts in the forms that llama-server takes, as token ids."""

from collections.abc import Sequence
from typing import Any, cast

from motet import checks
from motet.engine.prompts import encode
from motet.model import Model
from motet.server.failures import Refused
from motet.tokenizer import Tokenizer


def prompts_of(given: object, model: Model, field: str = "prompt") -> list[list[int]]:
    """The ids of each prompt of a request's ``field``.

    A prompt is text, token ids, a list of both, an object with "prompt_string", or one whose
    "content" is a list of parts of type "text"; a list of prompts is several. Raises Refused for
    anything else, TokenizerError and OptionError for what is no prompt of the model.
    """
    if not isinstance(given, list) or _is_one(cast(list[object], given)):
        return [_ids(given, model, field)]
    several = cast(list[object], given)
    if not several:
        raise Refused(400, f"{field} is empty", param=field)
    return [_ids(each, model, f"{field}[{place}]") for place, each in enumerate(several)]


def vocabulary(model: Model) -> Tokenizer:
    """The model's. Raises Refused where its file has none."""
    if model.tokenizer is None:
        raise Refused(501, f"{model.name} has no vocabulary, so text means nothing to it")
    return model.tokenizer


def raw_text(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """What tokens stand for, one after the other: no space is left out."""
    return b"".join(tokenizer.piece(token) for token in ids).decode("utf-8", "replace")


def _is_one(items: list[object]) -> bool:
    """Whether a list is one prompt: there is a token id in it."""
    return any(isinstance(item, int) for item in items)


def _ids(given: object, model: Model, field: str) -> list[int]:
    if isinstance(given, dict):
        given = _text_of(cast(dict[str, object], given), field)
    if isinstance(given, str):
        return encode(given, model.tokenizer, model.config.n_vocab, parse_special=True)
    if not isinstance(given, list):
        raise _no_prompt(given, field)
    ids: list[int] = []
    for place, item in enumerate(cast(list[object], given)):
        if isinstance(item, str):
            ids += vocabulary(model).encode(item, add_special=place == 0, parse_special=True)
        elif isinstance(item, int) and not isinstance(item, bool):
            ids.append(item)
        else:
            raise _no_prompt(item, f"{field}[{place}]")
    return encode(ids, model.tokenizer, model.config.n_vocab, parse_special=True)


def _text_of(given: dict[str, object], field: str) -> str:
    """The text of an object; those with pictures and the like are for other models."""
    if given.get("multimodal_data"):
        raise Refused(501, f"{field}: models here read text alone, no multimodal_data", param=field)
    text = given.get("prompt_string")
    content = given.get("content")
    if text is None and isinstance(content, list):
        parts = cast(list[object], content)
        text = "".join(_part(part, f"{field}.content[{i}]") for i, part in enumerate(parts))
    if not isinstance(text, str):
        raise _no_prompt(given, field)
    return text


def _part(part: Any, field: str) -> str:
    if not isinstance(part, dict):
        raise _no_prompt(part, field)
    said = cast(dict[str, object], part)
    text = said.get("text")
    if said.get("type") != "text" or not isinstance(text, str):
        raise Refused(400, f'{field}: models here read parts of type "text" alone', param=field)
    return text


def _no_prompt(given: object, field: str) -> Refused:
    return Refused(
        400,
        f"{field} is {checks.shown(given)}: give text, token ids, a list of both, or"
        ' {"prompt_string": "…"}',
        param=field,
    )
