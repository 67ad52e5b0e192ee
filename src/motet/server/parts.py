"""Contents of messages as lists of typed parts, which several APIs have."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BeforeValidator

_OTHER = ("image", "audio", "video", "document", "file")
"""What clients send beside text; the types of such parts have one of these words in them."""


def parts(text: str) -> BeforeValidator:
    """For a list of parts that may be given as text, which is a part of type ``text``.

    Parts of what no model here reads are refused by name.
    """

    def listed(value: Any) -> Any:
        if isinstance(value, str):
            return [{"type": text, "text": value}]
        return texts_alone(value)

    return BeforeValidator(listed)


def texts_alone(value: Any) -> Any:
    """A content as it is. Raises ValueError for a part of what no model here reads."""
    for part in cast(Sequence[Any], value) if isinstance(value, list) else ():
        kind = cast(Mapping[str, Any], part).get("type") if isinstance(part, dict) else None
        for other in _OTHER:
            if other in str(kind):
                raise ValueError(f"{other} input is not supported: models here read text alone")
    return value


def content_of(texts: Sequence[str]) -> str | list[dict[str, str]]:
    """The content of a chat's message that says these."""
    if len(texts) == 1:
        return texts[0]
    return [{"type": "text", "text": text} for text in texts]


def text_of(content: str | Sequence[Mapping[str, Any]]) -> str:
    """What such a content says, joined as models read it."""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)
