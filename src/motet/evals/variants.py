"""Variants of running a model that a measurement compares: plain, and with Self-Extend."""

from dataclasses import dataclass

from motet.model import Model
from motet.self_extend import AutoExtend, SelfExtend, require_positions


@dataclass(frozen=True)
class Variant:
    """A name, and the ``self_extend`` of the context."""

    name: str
    self_extend: SelfExtend | AutoExtend | None


PLAIN = Variant("plain", None)


def require_extendable(model: Model) -> None:
    """Raise UnsupportedError for a model that Self-Extend does not apply to."""
    require_positions(model.caches, model.config.positional)
