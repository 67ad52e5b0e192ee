"""How an engine's speculation is made: of a proposer, and of what decides how much it proposes."""

import logging
import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from motet import checks
from motet.engine.costs import StepCosts
from motet.engine.pace import Pace
from motet.engine.policies import Always, WhatPays
from motet.engine.speculating import Speculation
from motet.errors import OptionError
from motet.model import Model
from motet.speculation import DraftModel, Lookup, LookupBesideDraft, Proposer

_log = logging.getLogger("motet")

LOOKED_UP = 15
"""Tokens of a text proposed for an answer in a step, at most."""
DRAFTED = 8
"""Of these, tokens of a draft model."""
_HINT = 'use "auto", "lookup", None, or a draft model: its path, or a loaded motet.Model'

Speculate = str | PathLike[str] | Model | Proposer | None
"""See ``LLM``."""


@dataclass(frozen=True)
class Proposing:
    """A proposer, which the engine closes, and how many tokens it is asked for.

    ``most``: for an answer in a step; None for as many as pay, none where it does not.
    """

    proposer: Proposer
    most: int | None = None

    def begin(self, pace: Pace, n_vocab: int) -> Speculation:
        """For an engine with such a pace, of a model with so many tokens."""
        costs = StepCosts(pace)
        policy = WhatPays(costs) if self.most is None else Always(costs, self.most)
        return Speculation(self.proposer, policy, n_vocab)


def names_a_model(path: str | PathLike[str]) -> bool:
    """Whether that may be where a draft model is; a word that is no file's name is a mistake."""
    parts = Path(path).parts
    return len(parts) > 1 or bool(Path(path).suffix) or os.path.exists(path)  # noqa: PTH110 — of any name


def proposing_of(
    speculate: Speculate,
    model: Model,
    threads: int | None,
    max_sequences: int,
    context_length: int,
    kv_bytes: int | None,
) -> Proposing | None:
    """What ``LLM`` is told of it; the others are the LLM's own, of which a draft model's caches
    may take a quarter.

    Raises OptionError for what proposes nothing and a draft model of another vocabulary, and what
    ``Model.load`` and ``DraftModel`` raise.
    """
    if speculate is None:
        return None
    if isinstance(speculate, str) and speculate in ("auto", "lookup"):
        return Proposing(Lookup(), LOOKED_UP if speculate == "lookup" else None)
    if isinstance(speculate, str | PathLike):
        path = checks.path("speculate", speculate, _HINT)
        if not names_a_model(path):
            raise OptionError(f"speculate is {checks.shown(speculate)}", hint=_HINT)
        speculate = Model.load(path, threads)
    if isinstance(speculate, Model):
        kv_bytes = None if kv_bytes is None else kv_bytes // 4
        draft = DraftModel(speculate, model, max_sequences, context_length, kv_bytes)
        if speculate.bytes_per_token >= model.bytes_per_token:
            _log.warning(
                "%s, the draft, is not smaller than %s, so it makes answers slower",
                *(speculate.name, model.name),
            )
        return Proposing(LookupBesideDraft(Lookup(), draft, DRAFTED), LOOKED_UP)
    if isinstance(speculate, type) or not hasattr(speculate, "propose"):
        raise OptionError(f"speculate is {checks.shown(speculate)}", hint=_HINT)
    return Proposing(speculate, LOOKED_UP)
