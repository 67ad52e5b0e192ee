"""Train the model of docs/self-extend.md's proof: pass keys, and which of two came last.

``python -m training.proof --texts ../shared/data/text`` writes training/models/motet-proof.gguf
with its record. As motet-tiny it never sees more than TRAINED_LENGTH tokens. Unlike motet-tiny
it has no sliding layers, which work at any length and so hide what is lost beyond the trained one.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch

from training.data import BATCH_TOKENS, TRAINED_LENGTH, Diet
from training.evaluate import EVALUATION_SEED, share_answered
from training.export import LICENSE_NOTE, write_gguf
from training.gemma import Gemma, GemmaConfig
from training.keys import KeyRows
from training.tasks import Row, Stream
from training.texts import Text, read_texts
from training.train import PEAK_RATE, REPORT_EVERY, make_optimizer, train_step
from training.vocabulary import load_vocabulary, train_vocabulary
from training.wordings import SIMPLE, VARIED

NAME = "motet-proof"
LONGEST = ((0.15, 64), (0.35, 128), (1.0, TRAINED_LENGTH))
"""Rows of at most so many tokens, until this share of the run."""
KINDS = {"order": 0.35, "pass_key": 0.35, "recall": 0.1, "text": 0.2}
"""Share of the rows."""
KEYS = {"order": 2, "pass_key": 1}
"""Of a row of these kinds."""
REPEATED = 0.4
"""Share of the rows of keys that are of a repeated line in place of running text."""
VARIED_FROM = 96
"""Tokens of the shortest rows in varied words; shorter ones, with which the run begins, have simple
words in running text."""
ROPE_BASE = 200.0
"""With it 70 % of rope's frequencies turn round within TRAINED_LENGTH, as many as do within the
4,096 tokens of Llama 2 with its base of 10,000: 2π · base^x is the trained length at x = 0.70. With
a base of 10,000 half of them would hardly move in 256 tokens, and tell nothing of longer texts."""


class ProofDiet(Diet):
    """Rows of one key and of two, in text and in repeated lines, beside a little text."""

    shortest = 64

    def __init__(
        self, texts: list[Text], vocabulary: spm.SentencePieceProcessor, seed: int
    ) -> None:
        super().__init__(texts, vocabulary, seed)
        self.keys = KeyRows(self.tasks)

    def _phase(self, step: int, steps: int) -> tuple[int, dict[str, float]]:
        longest = next(size for until, size in LONGEST if step < until * steps or until == 1)
        return longest, KINDS

    def _row(self, kind: str, source: Stream, length: int, rng: np.random.Generator) -> Row:
        if kind in KEYS:
            repeated = bool(rng.random() < REPEATED) and length >= VARIED_FROM
            wording = VARIED if length >= VARIED_FROM else SIMPLE
            return self.keys.row(
                source, length, rng, KEYS[kind], repeated=repeated, wording=wording
            )
        return super()._row(kind, source, length, rng)


def accuracy(model: Gemma, diet: Diet, length: int, rows: int = 60) -> float:
    """Share of the last keys that greedy generation writes, of held-out rows."""
    rng = np.random.default_rng((EVALUATION_SEED, length))
    sources = list(diet.held_out.values())
    made = [
        diet.keys.row(sources[i % len(sources)], length, rng, 2, repeated=bool(i % 2))
        for i in range(rows)
    ]
    return share_answered(model, made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("training/models"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)

    texts = read_texts(options.texts)
    pieces = options.out / "vocabulary.model"
    train_vocabulary(texts, pieces)
    vocabulary = load_vocabulary(pieces)
    pieces.unlink()
    diet = ProofDiet(texts, vocabulary, options.seed)
    model = Gemma(GemmaConfig(vocabulary.vocab_size(), TRAINED_LENGTH, rope_base=ROPE_BASE))
    optimizer = make_optimizer(model)
    log, since, started = [], [], time.time()
    for step in range(1, options.steps + 1):
        since.append(train_step(model, optimizer, diet, step - 1, options.steps))
        if step % REPORT_EVERY == 0 or step == options.steps:
            log.append({"step": step, "loss": round(sum(since) / len(since), 4)})
            if step % (4 * REPORT_EVERY) == 0 or step == options.steps:
                log[-1]["order"] = {
                    n: accuracy(model, diet, n) for n in (VARIED_FROM, 128, TRAINED_LENGTH)
                }
            print(json.dumps(log[-1] | {"seconds": round(time.time() - started)}), flush=True)
            since = []
    path = options.out / f"{NAME}.gguf"
    write_gguf(path, NAME, model, vocabulary)
    record = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "license": LICENSE_NOTE,
        "data": {text.name: text.sha256 for text in texts},
        "longest": LONGEST,
        "kinds": KINDS,
        "seed": options.seed,
        "steps": options.steps,
        "tokens_per_step": BATCH_TOKENS,
        "optimizer": f"AdamW, peak rate {PEAK_RATE}, warm-up and cosine; bfloat16 autocast",
        "log": log,
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
