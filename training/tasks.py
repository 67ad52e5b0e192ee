"""Rows of training data: plain text, pass keys and their order, recall of a repeated segment.

A row is ``length + 1`` tokens and the loss weight of each of them as a target (the first, which is
never a target, has weight 0). All start with BOS, as prompts do.
"""

from dataclasses import dataclass

import numpy as np
import sentencepiece as spm

Row = tuple[np.ndarray, np.ndarray]  # tokens int64 [length + 1], weights float32 [length + 1]

KEY_DIGITS = 5
ANSWER_WEIGHT = 5.0
FILLER_WEIGHT = 0.5
RECALL_PIECES = 128


@dataclass(frozen=True)
class Stream:
    """Tokens of a text, end-of-sequence between its documents."""

    tokens: np.ndarray  # int64 [n]
    starts: np.ndarray  # where documents start
    words: np.ndarray  # where words start


class Tasks:
    """Makes rows from the vocabulary and token streams; all chance comes from the given rng."""

    def __init__(self, vocabulary: spm.SentencePieceProcessor) -> None:
        self.vocabulary = vocabulary
        pieces = [vocabulary.id_to_piece(i) for i in range(vocabulary.vocab_size())]
        self.opens_word = np.array([p.startswith("▁") for p in pieces])
        special = [
            vocabulary.is_control(i) or vocabulary.is_unknown(i) or vocabulary.is_byte(i)
            for i in range(len(pieces))
        ]
        self._common = np.flatnonzero(~np.array(special))[:RECALL_PIECES]  # in order of merging

    def stream(self, documents: list[str]) -> Stream:
        ids, starts = [], []
        for document in self.vocabulary.encode(documents):
            starts.append(len(ids))
            ids += [*document, self.vocabulary.eos_id()]
        tokens = np.array(ids, dtype=np.int64)
        return Stream(tokens, np.array(starts), np.flatnonzero(self.opens_word[tokens]))

    def text(self, stream: Stream, length: int, rng: np.random.Generator) -> Row:
        """A passage; half of them from the start of a document."""
        starts = stream.starts if rng.random() < 0.5 else stream.words
        starts = starts[starts + length <= len(stream.tokens)]
        start = int(rng.choice(starts))
        return self._row(stream.tokens[start : start + length], np.ones(length, np.float32))

    def pass_key(
        self,
        stream: Stream,
        length: int,
        rng: np.random.Generator,
        depth: float | None = None,
    ) -> Row:
        """A key told within filler and asked for at the end; the answer weighs most.

        ``depth`` is the share of the filler that comes before the key; chance if None. What is
        left of the row after the answer is filled with more text. The answer is the tokens with
        ``ANSWER_WEIGHT``. Telling and asking are not scored: nothing announces them, and a model
        that learns to expect them puts pass keys into its stories.
        """
        key = "".join(str(d) for d in rng.integers(0, 10, KEY_DIGITS))
        told = self.vocabulary.encode(f"The pass key is {key}. Remember it.")
        asked = self.vocabulary.encode("What is the pass key? The pass key is")
        answer = self.vocabulary.encode(f"{key}.")
        filler = length - len(told) - len(asked) - len(answer)
        if filler < 0:
            raise ValueError(f"a pass-key row needs more than {length} tokens")
        before = round(filler * (rng.random() if depth is None else depth))
        first = self.words(stream, before, rng)
        second = self.words(stream, filler - len(first), rng)
        parts = [
            (first, FILLER_WEIGHT),
            (told, 0.0),
            (second, FILLER_WEIGHT),
            (asked, 0.0),
            (answer[:-1], ANSWER_WEIGHT),
            (answer[-1:], FILLER_WEIGHT),
        ]
        return self.filled(parts, stream, length, rng)

    def recall(self, length: int, rng: np.random.Generator) -> Row:
        """Random common pieces, then a segment of them again (or over and over), scored there."""
        tokens = rng.choice(self._common, length)
        weights = np.zeros(length, np.float32)
        if rng.random() < 0.5:
            period = int(rng.integers(8, max(9, length // 2)))
            tokens = np.resize(tokens[:period], length)
            weights[period:] = 1.0
        else:
            size = int(rng.integers(8, max(9, length // 3)))
            start = int(rng.integers(0, length - 2 * size + 1))
            tokens[length - size :] = tokens[start : start + size]
            weights[length - size + 1 :] = 1.0  # nothing tells which token opens the segment
        return self._row(tokens, weights)

    def words(self, stream: Stream, count: int, rng: np.random.Generator) -> np.ndarray:
        """At most ``count`` tokens of text, from the start of a word to the end of one.

        Cut so, the pieces are those that the whole prompt has when it is encoded as one text.
        """
        if count == 0:
            return stream.tokens[:0]
        starts = stream.words[stream.words + count < len(stream.tokens)]
        start = int(rng.choice(starts))
        end = start + count
        while end > start and not self.opens_word[stream.tokens[end]]:
            end -= 1
        words = stream.tokens[start:end]
        return words[words != self.vocabulary.eos_id()]

    def filled(
        self,
        parts: list[tuple[np.ndarray | list[int], float]],
        stream: Stream,
        length: int,
        rng: np.random.Generator,
    ) -> Row:
        """Tokens with their weights, and text after them up to the row's length."""
        rest = length - sum(len(ids) for ids, _ in parts)
        after = int(rng.choice(stream.words[stream.words + rest <= len(stream.tokens)]))
        parts = [*parts, (stream.tokens[after : after + rest], FILLER_WEIGHT)]
        tokens = np.concatenate([np.asarray(ids, np.int64) for ids, _ in parts])
        weights = np.concatenate([np.full(len(ids), weight) for ids, weight in parts])
        return self._row(tokens, weights)

    def _row(self, tokens: np.ndarray, weights: np.ndarray) -> Row:
        bos = self.vocabulary.bos_id()
        return np.concatenate([[bos], tokens]), np.concatenate([[0], weights]).astype(np.float32)
