"""Train the tiny embedding model: spans of one story lie nearer than those of others.

``python -m training.embedding --texts ../shared/data/text`` writes motet-tiny-embedding.gguf and
its record into the package. Words begin as latent semantic analysis has them. The loss is InfoNCE
(van den Oord et al. 2018, equation 4) both ways: a span is told apart from those of the other
documents in the batch.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from training.bert import Bert, BertConfig
from training.export import LICENSE_NOTE, sha256, versions, write_model
from training.pairs import Swaps, documents, padded, pair, split_anew
from training.retrieval import Retrieval
from training.semantic import word_vectors
from training.texts import Text, read_texts
from training.train import REPORT_EVERY, learning_rate, make_optimizer
from training.wordpiece import add_wordpiece, make_tokenizer, train_wordpiece

NAME = "motet-tiny-embedding"
CONTEXT = 256
PEAK_RATE = 5e-4
TEMPERATURE = 0.05
SWAPPED = 0.3  # share of the pairs with other words
SOURCES = {
    "tinystories.txt": 0.7,
    "wizard_of_oz.txt": 0.1,
    "frankenstein.txt": 0.1,
    "pride_and_prejudice.txt": 0.1,
}
"""Share of each text."""
SIZES = ((30, 64, 0.15), (62, 32, 0.55), (126, 16, 0.2), (CONTEXT - 2, 8, 0.1))
"""Tokens of the longest spans of a step, pairs in it, and its chance."""
SPELT = ("Once upon a time", "Lily didn't find her Umbrella.", "café 58219 ☃")


class Pairs:
    """The pairs of each step, by seed and step alone."""

    def __init__(self, texts: list[Text], tokenizer: Tokenizer, seed: int) -> None:
        self.documents = {text.name: documents(text, tokenizer) for text in texts}
        self.tokenizer, self.seed = tokenizer, seed
        self.swaps = Swaps(list(self.documents.values()), tokenizer)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows as of ``padded``: first spans, then second ones; all of one text."""
        rng = np.random.default_rng((self.seed, step))
        longest, count, _ = SIZES[rng.choice(len(SIZES), p=[chance for *_, chance in SIZES])]
        source = self.documents[rng.choice(list(SOURCES), p=list(SOURCES.values()))]
        firsts, seconds = [], []
        for i in rng.permutation(len(source))[:count]:
            first, second = pair(source[i], longest, rng)
            if rng.random() < SWAPPED:
                becomes = self.swaps.draw(rng)
                first, second = becomes[first].tolist(), becomes[second].tolist()
            firsts.append(first)
            seconds.append(second)
        return padded(firsts + seconds, self.tokenizer)


def train_step(
    model: Bert, optimizer: torch.optim.Optimizer, pairs: Pairs, step: int, steps: int
) -> float:
    """One step; returns its loss in nats."""
    tokens, real = (torch.from_numpy(part) for part in pairs.batch(step))
    first, second = F.normalize(model(tokens, real), dim=-1).chunk(2)
    likeness = first @ second.T / TEMPERATURE
    own = torch.arange(len(first))
    loss = (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, steps, PEAK_RATE)
    optimizer.step()
    return loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("src/motet/data"))
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)

    texts = split_anew([t for t in read_texts(options.texts) if t.name in SOURCES])
    pieces = train_wordpiece(texts)
    tokenizer = make_tokenizer(pieces)
    pairs = Pairs(texts, tokenizer, options.seed)
    held_out = Retrieval(texts, tokenizer)
    model = Bert(BertConfig(len(pieces), CONTEXT))
    random = held_out.of_model(model.eval())
    source = [d for some in pairs.documents.values() for d in some]
    rng = np.random.default_rng(options.seed)
    size = model.config.d_model - 2
    model.begin_with(torch.from_numpy(word_vectors(source, len(pieces), size, rng)))
    begun = held_out.of_model(model)
    optimizer = make_optimizer(model)
    log, since, started, used = [], [], time.time(), time.process_time()
    for step in range(1, options.steps + 1):
        since.append(train_step(model.train(), optimizer, pairs, step - 1, options.steps))
        if step % (REPORT_EVERY // 2) == 0 or step == options.steps:
            log.append({"step": step, "loss": round(sum(since) / len(since), 4)})
            print(json.dumps(log[-1] | {"seconds": round(time.time() - started)}), flush=True)
            since = []
    seconds = {"wall_seconds": time.time() - started, "cpu_seconds": time.process_time() - used}
    path = options.out / f"{NAME}.gguf"
    write_model(path, NAME, model.eval(), partial(add_wordpiece, pieces=pieces))
    record = {
        "name": NAME,
        "file": {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "license": LICENSE_NOTE,
        "data": [
            {
                "file": text.name,
                "bytes": text.size,
                "sha256": text.sha256,
                "share": SOURCES[text.name],
                "train_documents": len(pairs.documents[text.name]),
                "held_out_documents": len(text.held_out),
            }
            for text in texts
        ],
        "training": {
            "seed": options.seed,
            "steps": options.steps,
            "sizes": SIZES,
            "temperature": TEMPERATURE,
            "swapped": SWAPPED,
            "optimizer": f"AdamW, peak rate {PEAK_RATE}, warm-up and cosine",
            **{name: round(value, 1) for name, value in seconds.items()},
            "threads": 1,
            "log": log,
        },
        "retrieval": {
            "model": held_out.of_model(model),
            "begun": begun,
            "random": random,
            "bag_of_words": held_out.of_words(weighted=False),
            "tf_idf": held_out.of_words(weighted=True),
        },
        "tokenized": {text: tokenizer.encode(text).ids for text in SPELT},
        "versions": versions(),
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
