"""How often tokens are chosen that were proposed, by where they came from."""

from dataclasses import dataclass, field

Kind = tuple[str, int]
"""The source of a proposal, and the length of its match, rounded."""

_PRIOR = 4.0
"""Tokens that what is taken for granted counts as."""
_SHARED = 6.0
"""Tokens that what was seen in all answers counts as, beside an answer's own."""
_KEPT = 0.95
"""Of an answer's counts, with each proposal: it may copy now and write later."""
_MOST = 400.0
"""Of the shared counts, which are halved then."""
_EXPECTED = {0: 0.6, 3: 0.4, 4: 0.5, 8: 0.75, 16: 0.85}
"""Of tokens proposed after a match so long, before any was seen."""


def kind_of(source: str, quality: int) -> Kind:
    """See ``Kind``."""
    return source, max((bound for bound in _EXPECTED if bound <= quality), default=0)


@dataclass
class _Counts:
    chosen: float = 0.0
    tried: float = 0.0

    def add(self, chosen: int, missed: bool) -> None:
        self.chosen += chosen
        self.tried += chosen + missed

    def scale(self, factor: float) -> None:
        self.chosen *= factor
        self.tried *= factor

    def share(self, expected: float, weight: float) -> float:
        return (self.chosen + weight * expected) / (self.tried + weight)


@dataclass
class Acceptance:
    """Of one answer; ``shared`` by all."""

    shared: dict[Kind, _Counts]
    own: dict[Kind, _Counts] = field(default_factory=dict[Kind, _Counts])

    def learn(self, kind: Kind, chosen: int, missed: bool) -> None:
        """So many tokens of a proposal were chosen; whether the one after them was not."""
        own = self.own.setdefault(kind, _Counts())
        own.scale(_KEPT)
        own.add(chosen, missed)
        shared = self.shared.setdefault(kind, _Counts())
        if shared.tried > _MOST:
            shared.scale(0.5)
        shared.add(chosen, missed)

    def of(self, kind: Kind) -> float:
        """The share of proposed tokens of a kind that are chosen where those before them are."""
        source, quality = kind
        expected = 0.9 if source == "grammar" else _EXPECTED[quality]
        seen = self.shared.get(kind)
        if seen is not None:
            expected = seen.share(expected, _PRIOR)
        own = self.own.get(kind)
        return expected if own is None else own.share(expected, _SHARED)
