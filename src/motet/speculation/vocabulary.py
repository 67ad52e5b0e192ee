"""Whether a draft's tokens are the model's."""

from motet.errors import OptionError
from motet.model import Model

_PADDING = 1024
"""Tokens that one of them may have beyond the other's: vocabularies are padded."""


def common_tokens(draft: Model, target: Model) -> int:
    """How many ids, from 0 on, mean the same to both.

    Tokens that stand for no text may differ: those are the first to be renamed in training. Raises
    OptionError, with the first token that differs, for another vocabulary.
    """
    name = f"{draft.name} can't draft for {target.name}"
    hint = "a draft model is a smaller one of the same family, with the same vocabulary"
    common = min(draft.n_vocab, target.n_vocab)
    if max(draft.n_vocab, target.n_vocab) - common > _PADDING:
        raise OptionError(
            f"{name}: its vocabulary has {draft.n_vocab} tokens, and {target.n_vocab} are needed",
            hint=hint,
        )
    ours, theirs = draft.tokenizer, target.tokenizer
    if ours is None or theirs is None:
        if ours is theirs:
            return common
        lacking = draft.name if ours is None else target.name
        raise OptionError(f"{name}: {lacking} has no vocabulary to compare", hint=hint)
    differs = ours.difference(theirs, common)
    if differs is not None:
        raise OptionError(
            f"{name}: token {differs} is {ours.piece(differs)!r}, not {theirs.piece(differs)!r}",
            hint=hint,
        )
    return common
