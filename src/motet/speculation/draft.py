"""Proposals by a smaller model that reads and writes along."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from motet.arrays import Float32, common_prefix
from motet.batch import Batch
from motet.context import position_limit
from motet.errors import CannotRewind, CapacityError, MotetError, UnsupportedError
from motet.memory.budget import default_kv_bytes
from motet.model import Model
from motet.spec import Recurrent
from motet.speculation.guessing import Guesser
from motet.speculation.proposal import Proposal, Wanted
from motet.speculation.vocabulary import common_tokens

_AT_ONCE = 512
"""Tokens of a prompt that are caught up with in a step: no long one holds up the others."""
_NEAR = 64
"""Tokens that a sequence may be behind and still be drafted for in the same step."""

_log = logging.getLogger("motet")


@dataclass(eq=False)
class _Sequence:
    """What the draft has of a sequence."""

    said: list[int]
    held: int = 0
    """Tokens of ``said`` in the draft's memory."""
    ahead: list[int] = field(default_factory=list[int])
    """Tokens after them in memory, which were guessed."""
    guesser: Guesser = field(default_factory=Guesser)
    checked: int = 0
    """Tokens of ``said`` that are known to be the draft's, too."""
    lost: bool = False
    """Whether the draft can't go on."""

    @property
    def behind(self) -> int:
        """Tokens that are still to be computed; the last one always is."""
        return len(self.said) - self.held

    def settle(self) -> None:
        """Of the guesses those are held that were right, and at least the last token is not."""
        right = common_prefix(np.array(self.ahead), np.array(self.said[self.held :]))
        self.held = min(self.held + right, len(self.said) - 1)
        self.ahead = []


class DraftModel:
    """Proposes what a draft model says: see ``Proposer``.

    It has sequences of the same numbers in a context of its own, and keeps in step: what it has in
    common with what was said stays, the rest is computed anew. Several sequences are drafted
    together.
    """

    def __init__(
        self,
        draft: Model,
        target: Model,
        max_sequences: int,
        context_length: int,
        kv_bytes: int | None = None,
    ) -> None:
        """``draft``: of the vocabulary of ``target``, which has so many sequences of so many
        tokens. ``kv_bytes``: what the draft's caches may take; by default a quarter of what the
        target's may.

        Raises OptionError for another vocabulary, UnsupportedError of encoder-decoders, whose
        answers do not go on from the prompt, and what ``Model.context`` raises.
        """
        for model in (draft, target):
            if model.config.decoder_start is not None:
                raise UnsupportedError(
                    f"{model.name} is an encoder-decoder, and those do without a draft model",
                    hint="choose speculate='lookup', or None",
                )
        self._tokens = common_tokens(draft, target)
        self._n_vocab, self._draft_tokens = target.n_vocab, draft.n_vocab
        self._ends = frozenset[int]() if target.tokenizer is None else target.tokenizer.eog
        self._length = min(context_length, position_limit(draft))
        recurrent = any(isinstance(spec, Recurrent) for specs in draft.caches for spec in specs)
        self._scratch = max_sequences if recurrent else 0
        """What is added to a sequence's number for the one in which guesses are tried, where what
        was computed with them can't be taken back from the sequence's own state."""
        self._sequences: dict[int, _Sequence] = {}
        sequences = max_sequences + self._scratch
        self._context = draft.context(
            max_sequences=sequences,
            max_tokens=sequences * self._length,
            kv_bytes=default_kv_bytes() // 4 if kv_bytes is None else kv_bytes,
            pooling="none",
        )
        self._memory = self._context.memory

    def propose(self, wanted: Sequence[Wanted]) -> list[Proposal | None]:
        drafted = {each.seq: list[int]() for each in wanted}
        able = [each for each in wanted if self._follow(each)]
        try:
            self._keep_in_step(able)
            self._draft(able, drafted)
        except MotetError as error:  # the answers go on without a draft
            self._give_up(able, error)
        return [
            Proposal(tuple(tokens), 0, "draft") if (tokens := drafted[each.seq]) else None
            for each in wanted
        ]

    def ended(self, seq: int, tokens: Sequence[int], start: int) -> None:
        """What memory has stays, for the next sequence that begins so, unless none may."""
        self._sequences.pop(seq, None)
        if start >= len(tokens):
            self._memory.remove(seq)

    def forget(self) -> None:
        for seq in self._own():
            if seq not in self._sequences:
                self._memory.remove(seq)
        self._memory.trim()

    def close(self) -> None:
        self._sequences.clear()
        self._memory.clear()

    def _follow(self, wanted: Wanted) -> bool:
        """Whether the draft can follow a sequence, and anything is wanted of it."""
        said = wanted.tokens
        sequence = self._sequences.get(wanted.seq)
        if sequence is None or sequence.said is not said:
            sequence = self._sequences[wanted.seq] = _Sequence(said)
        sequence.lost |= self._beyond(sequence)
        return not sequence.lost and wanted.most > 0

    def _beyond(self, sequence: _Sequence) -> bool:
        """Whether a sequence has more tokens than the draft's context, or some it does not know."""
        new = sequence.said[sequence.checked :] if self._draft_tokens < self._n_vocab else ()
        sequence.checked = len(sequence.said)
        return len(sequence.said) >= self._length or max(new, default=0) >= self._draft_tokens

    def _keep_in_step(self, wanted: Sequence[Wanted]) -> None:
        """Keep what the draft has in common with what was said: guesses that were right, and where
        it has much less than the sequence, what any other has of it."""
        ends: dict[int, int] = {}
        for each in wanted:
            sequence = self._sequences[each.seq]
            had = sequence.held + len(sequence.ahead)
            sequence.settle()
            if sequence.held < had:
                ends[each.seq] = sequence.held
        try:
            self._memory.rewind(ends)
        except CannotRewind:
            for seq, end in ends.items():
                self._sequences[seq].held = self._cut(seq, end)
        for each in wanted:
            sequence = self._sequences[each.seq]
            if not sequence.held or sequence.behind > _NEAR:
                sequence.held = self._begin(each.seq, each.tokens)

    def _begin(self, seq: int, said: list[int]) -> int:
        """Let a sequence begin with what any has of ``said``; how many tokens that are."""
        ids = np.asarray(said[:-1], np.int32)
        common = {each: common_prefix(self._memory.tokens(each), ids) for each in self._own()}
        best = max(common, key=lambda each: (common[each], each == seq))
        if common[best] < common[seq] + _NEAR:
            return self._cut(seq, common[seq])
        self._memory.remove(seq)
        usable = self._memory.reachable(best, common[best])
        self._memory.copy(best, seq, 0, usable)
        return usable

    def _cut(self, seq: int, position: int) -> int:
        """Go back to ``position``, or to where memory can."""
        reachable = self._memory.reachable(seq, position)
        self._memory.remove(seq, reachable)
        return reachable

    def _draft(self, wanted: Sequence[Wanted], drafted: dict[int, list[int]]) -> None:
        """Add to ``drafted`` what may follow each sequence, a token of all of them at a time."""
        rows = self._catch_up(wanted)
        for each, _ in rows:
            self._sequences[each.seq].guesser.begin(each.tokens, each.sampler)
        tried: list[int] = []
        try:
            while rows:
                going = [each for each, row in rows if self._guess(each, row, drafted[each.seq])]
                if self._scratch and not tried:
                    for each in going:
                        tried.append(each.seq + self._scratch)
                        self._memory.copy(each.seq, tried[-1])
                batch = Batch()
                for each in going:
                    guesses = drafted[each.seq]
                    position = len(each.tokens) + len(guesses) - 1
                    batch.add(guesses[-1], position, each.seq + self._scratch, logits=True)
                rows = self._decode(batch, going)
                if not self._scratch:
                    for each in going:
                        self._sequences[each.seq].ahead.append(drafted[each.seq][-1])
        finally:
            for seq in tried:
                self._memory.remove(seq)

    def _catch_up(self, wanted: Sequence[Wanted]) -> list[tuple[Wanted, Float32]]:
        """Compute what was said meanwhile, and logits where that is all."""
        behind = {each.seq: self._sequences[each.seq].behind for each in wanted}
        chosen = [each for each in wanted if behind[each.seq] <= _NEAR]
        most = _AT_ONCE // 4 if chosen else _AT_ONCE
        others = [each for each in wanted if behind[each.seq] > _NEAR]
        chosen += sorted(others, key=lambda each: behind[each.seq])[:1]
        batch, ready, ends = Batch(), list[Wanted](), dict[int, int]()
        for each in chosen:
            start = self._sequences[each.seq].held
            tokens = each.tokens[start : start + max(most, _NEAR)]
            ends[each.seq] = start + len(tokens)
            done = ends[each.seq] == len(each.tokens)
            batch.extend(tokens, start, each.seq, "last" if done else "none")
            if done:
                ready.append(each)
        rows = self._decode(batch, ready)
        for seq, end in ends.items():
            self._sequences[seq].held = end
        return rows

    def _guess(self, wanted: Wanted, row: Float32, drafted: list[int]) -> bool:
        """Add the next token to those drafted, if it is likely; whether more are wanted."""
        if len(row) != self._n_vocab:
            logits = np.full(self._n_vocab, -np.inf, np.float32)
            logits[: self._tokens] = row[: self._tokens]
            row = logits
        token = self._sequences[wanted.seq].guesser.guess(row)
        if token is None:
            return False
        drafted.append(token)
        room = self._length - len(wanted.tokens)
        return len(drafted) < min(wanted.most, room) and token not in self._ends

    def _decode(self, batch: Batch, wanted: Sequence[Wanted]) -> list[tuple[Wanted, Float32]]:
        """The rows of logits of a batch, each with the sequence that it is for."""
        while len(batch):
            try:
                return list(zip(wanted, self._context.decode(batch).logits, strict=True))
            except CapacityError:
                idle = [seq for seq in self._own() if seq not in self._sequences]
                held = [seq for seq in idle if self._memory.length(seq)]
                if not held:
                    raise
                self._memory.remove(held[0])
        return []

    def _give_up(self, wanted: Sequence[Wanted], error: MotetError) -> None:
        """Draft no more for the longest sequence where memory is short, for all of them where the
        draft has failed."""
        longest = max(wanted, key=lambda each: len(each.tokens))
        lost = [longest] if isinstance(error, CapacityError) else wanted
        _log.warning("%d answers go on without the draft model: %s", len(lost), error)
        for each in lost:
            self._sequences[each.seq].lost = True
            self._memory.remove(each.seq)

    def _own(self) -> range:
        """All sequences but those in which guesses are tried."""
        return range(self._context.max_sequences - self._scratch)
