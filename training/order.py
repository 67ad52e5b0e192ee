"""Train the model of docs/self-extend.md's order task: which of two pass keys came last.

``python -m training.order --texts ../shared/data/text`` writes training/models/motet-order.gguf
with its record. As motet-tiny it never sees more than TRAINED_LENGTH tokens; it is smaller and
learns nothing but to find keys.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch

from training.data import BATCH_TOKENS, SOURCES, TRAINED_LENGTH, Batch, Diet
from training.evaluate import EVALUATION_SEED
from training.export import LICENSE_NOTE, write_gguf
from training.gemma2 import Gemma2, Gemma2Config
from training.tasks import ANSWER_WEIGHT
from training.texts import read_texts
from training.train import PEAK_RATE, REPORT_EVERY, make_optimizer, train_step
from training.vocabulary import load_vocabulary, train_vocabulary

NAME = "motet-order"
LONGEST = ((0.15, 64), (0.35, 128), (1.0, TRAINED_LENGTH))
"""Rows of at most so many tokens, until this share of the run."""
KINDS = {"order": 0.45, "pass_key": 0.25, "recall": 0.1, "text": 0.2}
"""Share of the rows."""


class OrderDiet(Diet):
    """Rows of two keys and of one, beside a little text."""

    def batch(self, step: int, steps: int) -> Batch:
        """The rows of one step: all of one length, about BATCH_TOKENS in all."""
        rng = np.random.default_rng((self.seed, step))
        longest = next(size for until, size in LONGEST if step < until * steps or until == 1)
        short = int(rng.integers(4, longest // 16 + 1)) * 16
        length = longest if rng.random() < 0.6 else short
        rows = []
        for _ in range(BATCH_TOKENS // length):
            kind = rng.choice(list(KINDS), p=list(KINDS.values()))
            source = self.train[rng.choice(list(SOURCES), p=list(SOURCES.values()))]
            if kind == "recall":
                rows.append(self.tasks.recall(length, rng))
            else:
                rows.append(getattr(self.tasks, kind)(source, length, rng))
        tokens, weights = zip(*rows, strict=True)
        return Batch(np.stack(tokens), np.stack(weights))


def make_model(n_vocab: int) -> Gemma2:
    config = Gemma2Config(n_vocab, TRAINED_LENGTH, d_model=96, n_layers=4, d_ff=256, dropout=0.0)
    return Gemma2(config)


@torch.no_grad()
def accuracy(model: Gemma2, diet: Diet, length: int, rows: int = 60) -> float:
    """Share of the last keys that greedy generation writes, of held-out rows."""
    rng = np.random.default_rng((EVALUATION_SEED, length))
    sources = list(diet.held_out.values())
    made = [diet.tasks.order(sources[i % len(sources)], length, rng) for i in range(rows)]
    tokens = torch.from_numpy(np.stack([row for row, _ in made]))
    answers = torch.from_numpy(np.stack([w for _, w in made]))[:, 1:] == ANSWER_WEIGHT
    right = model(tokens[:, :-1]).argmax(-1) == tokens[:, 1:]
    return round((right | ~answers).all(1).double().mean().item(), 4)


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
    diet = OrderDiet(texts, vocabulary, options.seed)
    model = make_model(vocabulary.vocab_size())
    optimizer = make_optimizer(model)
    log, since, started = [], [], time.time()
    for step in range(1, options.steps + 1):
        since.append(train_step(model, optimizer, diet, step - 1, options.steps))
        if step % REPORT_EVERY == 0 or step == options.steps:
            log.append({"step": step, "loss": round(sum(since) / len(since), 4)})
            if step % (4 * REPORT_EVERY) == 0 or step == options.steps:
                log[-1]["order"] = {n: accuracy(model, diet, n) for n in (64, 128, TRAINED_LENGTH)}
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
