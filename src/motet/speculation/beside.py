"""Two proposers beside each other: what a text says where it matches well, a draft elsewhere."""

from collections.abc import Sequence
from dataclasses import replace

from motet.speculation.proposal import Proposal, Proposer, Wanted

_SURE = 8
"""Tokens of a match from which on a text is right more often than a model."""


class LookupBesideDraft:
    """See ``Proposer``. The draft is asked where the lookup's match is short, for fewer tokens."""

    def __init__(self, lookup: Proposer, draft: Proposer, drafted: int) -> None:
        """``drafted``: tokens of the draft for a sequence at most."""
        self._lookup = lookup
        self._draft = draft
        self._drafted = drafted

    def propose(self, wanted: Sequence[Wanted]) -> list[Proposal | None]:
        found = self._lookup.propose(wanted)
        unsure = [n for n, each in enumerate(found) if each is None or each.quality < _SURE]
        asked = [replace(wanted[n], most=min(wanted[n].most, self._drafted)) for n in unsure]
        for n, drafted in zip(unsure, self._draft.propose(asked) if asked else (), strict=True):
            found[n] = drafted or found[n]
        return found

    def ended(self, seq: int, tokens: Sequence[int], start: int) -> None:
        self._lookup.ended(seq, tokens, start)
        self._draft.ended(seq, tokens, start)

    def forget(self) -> None:
        self._lookup.forget()
        self._draft.forget()

    def close(self) -> None:
        self._lookup.close()
        self._draft.close()
