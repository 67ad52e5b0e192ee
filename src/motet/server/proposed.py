"""llama-server's fields of how tokens are proposed: how many at most. The rest is the server's
business, and changes nothing that is said."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

_BEGINS = "speculative."
_HEEDED = "speculative.n_max"

MostProposed = Annotated[
    int | None,
    Field(ge=0, alias=_HEEDED, description="At most so many tokens are proposed at a time."),
]


def heeded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without those that nobody here heeds."""
    return {
        name: value
        for name, value in fields.items()
        if name == _HEEDED or not name.startswith(_BEGINS)
    }
