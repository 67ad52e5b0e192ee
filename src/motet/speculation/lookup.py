"""Proposals from texts: what a sequence said before, or what others have."""

from collections.abc import Sequence
from itertools import chain

from motet import checks
from motet.speculation.following import Following, Place, Text
from motet.speculation.ngrams import BREAK, LONGEST, NGrams
from motet.speculation.proposal import Proposal, Wanted

_OWN_GRAM = 2
"""Tokens that match at least in a sequence's own text, and in what it is expected to say."""
_OTHER_GRAM = 4
"""In others', which are likely to have the same few tokens for another reason."""
_AT_ONCE = 4096
"""Tokens of a text that are indexed in a step: no long prompt holds up the others."""
_OF_ANSWER = 4096
"""Tokens of an answer that are kept for others, and ``_BEFORE`` of its prompt, where it begins."""
_BEFORE = 64
_KEPT = 1 << 15
"""Tokens of answers: the last of them, at least half as many and at most so many."""


class Lookup:
    """Goes on as a text does in which the same stands: see ``Proposer``.

    The longest match counts, and of equal ones the last. Looked at are the ``prediction`` of what
    the answer says, what the sequence itself has said, ``texts`` for all of them, and the last
    answers to others. So how fast an answer comes may depend on others', as it does with a prefix
    cache; what it says does not.
    """

    def __init__(self, texts: Sequence[Sequence[int]] = ()) -> None:
        """``texts``: of token ids. Raises OptionError for anything else."""
        self._texts = Text(NGrams(_joined(texts), _OTHER_GRAM), "texts")
        self._texts.ngrams.grow(len(self._texts.ngrams.tokens))
        self._answers = _Answers()
        self._sequences: dict[int, _Sequence] = {}

    def propose(self, wanted: Sequence[Wanted]) -> list[Proposal | None]:
        return [self._of(each) for each in wanted]

    def ended(self, seq: int, tokens: Sequence[int], start: int) -> None:
        self._sequences.pop(seq, None)
        if start < len(tokens):
            self._answers.add(tokens, start)

    def forget(self) -> None:
        self._answers = _Answers()

    def close(self) -> None:
        self._sequences.clear()
        self.forget()

    def _of(self, wanted: Wanted) -> Proposal | None:
        sequence = self._sequences.get(wanted.seq)
        if sequence is None or sequence.said is not wanted.tokens:
            sequence = self._sequences[wanted.seq] = _Sequence(wanted)
        place = sequence.find((self._texts, *self._answers.texts))
        tokens = place.next(wanted.most, sequence.said) if place else ()
        if place is None or not tokens:
            return None
        return Proposal(tokens, min(place.matched, LONGEST), place.source)


class _Sequence:
    """What is followed of one sequence."""

    def __init__(self, wanted: Wanted) -> None:
        self.said = wanted.tokens
        self._own = NGrams(self.said, _OWN_GRAM)
        self._texts = [Text(self._own, "sequence")]
        expected = None
        if wanted.prediction:
            prediction = Text(NGrams(list(wanted.prediction), _OWN_GRAM), "prediction")
            self._texts.insert(0, prediction)
            expected = Place(prediction, 0, 0, resumed=True)
        self._following = Following(self.said, expected)

    def find(self, others: Sequence[Text]) -> Place | None:
        """Where it may go on."""
        for text in self._texts:
            text.ngrams.grow(_AT_ONCE)
        return self._following.find(chain(self._texts, others))


class _Answers:
    """The last answers, in two texts: when one is full, it takes the place of the older one."""

    def __init__(self) -> None:
        self.texts = [Text(NGrams([], _OTHER_GRAM), "others") for _ in range(2)]

    def add(self, tokens: Sequence[int], start: int) -> None:
        begin = max(start - _BEFORE, 0)
        answer = tokens[begin : start + _OF_ANSWER]
        newest = self.texts[0].ngrams
        if len(newest.tokens) + len(answer) >= _KEPT // 2:
            newest = NGrams([], _OTHER_GRAM)
            self.texts = [Text(newest, "others"), self.texts[0]]
        newest.tokens += [*answer, BREAK]
        newest.grow(len(newest.tokens))


def _joined(texts: Sequence[Sequence[int]]) -> list[int]:
    of = "texts, each a list of token ids, as [tokenizer.encode(text)]"
    joined: list[int] = []
    for text in checks.collection("texts", texts, of):
        tokens = checks.collection("a text", text, "token ids, as tokenizer.encode(text)")
        joined += [checks.whole("a token of the texts", token) for token in tokens]
        joined.append(BREAK)
    return joined
