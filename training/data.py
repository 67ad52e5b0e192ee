"""The diet: which rows a training step gets, as a function of the seed and the step alone."""

from dataclasses import dataclass

import numpy as np
import sentencepiece as spm

from training.tasks import Stream, Tasks
from training.texts import Text, rename

TRAINED_LENGTH = 256
BATCH_TOKENS = 4096
STORY_VARIANTS = 8  # copies of the stories, each with other names

# Share of rows per kind, and of texts within plain text and filler.
SHARES = {"text": 0.5, "pass_key": 0.32, "recall": 0.18}
SOURCES = {
    "tinystories.txt": 0.60,
    "wizard_of_oz.txt": 0.16,
    "frankenstein.txt": 0.09,
    "pride_and_prejudice.txt": 0.09,
    "tinyshakespeare.txt": 0.06,
}

# (share of the run at which it ends, longest row)
CURRICULUM = ((0.12, 64), (0.28, 128), (1.0, TRAINED_LENGTH))


@dataclass(frozen=True)
class Batch:
    tokens: np.ndarray  # int64 [rows, length + 1]
    weights: np.ndarray  # float32 [rows, length + 1]: loss weight of each token as a target


class Diet:
    """Training and held-out streams of every text, and the batches drawn from them."""

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
        longest = next(length for share, length in CURRICULUM if step < share * steps or share == 1)
        length = longest if rng.random() < 0.6 else int(rng.integers(3, longest // 16 + 1)) * 16
        rows = []
        for _ in range(BATCH_TOKENS // length):
            kind = rng.choice(list(SHARES), p=list(SHARES.values()))
            source = self.train[rng.choice(list(SOURCES), p=list(SOURCES.values()))]
            if kind == "text":
                rows.append(self.tasks.text(source, length, rng))
            elif kind == "pass_key":
                rows.append(self.tasks.pass_key(source, length, rng))
            else:
                rows.append(self.tasks.recall(length, rng))
        tokens, weights = zip(*rows, strict=True)
        return Batch(np.stack(tokens), np.stack(weights))
