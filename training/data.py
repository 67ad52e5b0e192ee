"""The diet: which rows a training step gets, as a function of the seed and the step alone."""

from dataclasses import dataclass

import numpy as np
import sentencepiece as spm

from training.tasks import Row, Stream, Tasks
from training.texts import Text, rename

TRAINED_LENGTH = 256
BATCH_TOKENS = 4096
STORY_VARIANTS = 8  # copies of the stories, each with other names

# Share of each text within plain text and filler.
SOURCES = {
    "tinystories.txt": 0.54,
    "wizard_of_oz.txt": 0.20,
    "frankenstein.txt": 0.10,
    "pride_and_prejudice.txt": 0.10,
    "tinyshakespeare.txt": 0.06,
}


@dataclass(frozen=True)
class Phase:
    """A part of the run: rows of at most ``longest`` tokens, by kind."""

    until: float  # share of the run at which it ends
    longest: int
    text: float  # share of rows of each kind
    pass_key: float
    recall: float


# Retrieval first and short: it is then learnt in some 200 steps, and hardly at all (in 800) when
# it begins as a minority beside text. Prose after, once retrieval has to be kept, not found.
CURRICULUM = (
    Phase(0.10, 64, text=0.15, pass_key=0.45, recall=0.40),
    Phase(0.20, 128, text=0.25, pass_key=0.40, recall=0.35),
    Phase(0.35, TRAINED_LENGTH, text=0.40, pass_key=0.35, recall=0.25),
    Phase(1.00, TRAINED_LENGTH, text=0.60, pass_key=0.28, recall=0.12),
)


@dataclass(frozen=True)
class Batch:
    tokens: np.ndarray  # int64 [rows, length + 1]
    weights: np.ndarray  # float32 [rows, length + 1]: loss weight of each token as a target


class Diet:
    """Training and held-out streams of every text, and the batches drawn from them."""

    shortest = 48
    """Tokens of a row, at least."""

    def __init__(
        self, texts: list[Text], vocabulary: spm.SentencePieceProcessor, seed: int
    ) -> None:
        self.tasks = Tasks(vocabulary)
        self.seed = seed
        rng = np.random.default_rng(seed)
        self.train: dict[str, Stream] = {}
        self.held_out: dict[str, Stream] = {}
        for text in texts:
            documents = text.train
            if text.name == "tinystories.txt":
                documents = [rename(d, rng) for _ in range(STORY_VARIANTS) for d in text.train]
            self.train[text.name] = self.tasks.stream(documents)
            self.held_out[text.name] = self.tasks.stream(text.held_out)

    def batch(self, step: int, steps: int) -> Batch:
        """The rows of one step: all of one length, about BATCH_TOKENS in all."""
        rng = np.random.default_rng((self.seed, step))
        longest, shares = self._phase(step, steps)
        short = int(rng.integers(self.shortest // 16, longest // 16 + 1)) * 16
        length = longest if rng.random() < 0.6 else short
        rows = []
        for _ in range(BATCH_TOKENS // length):
            kind = rng.choice(list(shares), p=list(shares.values()))
            source = self.train[rng.choice(list(SOURCES), p=list(SOURCES.values()))]
            rows.append(self._row(kind, source, length, rng))
        tokens, weights = zip(*rows, strict=True)
        return Batch(np.stack(tokens), np.stack(weights))

    def _phase(self, step: int, steps: int) -> tuple[int, dict[str, float]]:
        """Tokens of the longest rows of a step, and the share of each kind."""
        phase = next(p for p in CURRICULUM if step < p.until * steps or p is CURRICULUM[-1])
        return phase.longest, {
            "text": phase.text,
            "pass_key": phase.pass_key,
            "recall": phase.recall,
        }

    def _row(self, kind: str, source: Stream, length: int, rng: np.random.Generator) -> Row:
        if kind == "recall":
            return self.tasks.recall(length, rng)
        make = self.tasks.text if kind == "text" else self.tasks.pass_key
        return make(source, length, rng)
