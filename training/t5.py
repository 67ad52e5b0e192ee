"""Train the tiny T5: ``python -m training.t5 --texts ../shared/data/text``.

Writes motet-tiny-t5.gguf and its record into the package.
"""

import argparse
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F

from training.evaluate import EVALUATION_SEED
from training.export import LICENSE_NOTE, sha256, versions, write_model
from training.questions import KINDS, LONGEST_ANSWER, Question, Questions, documents_of
from training.t5_model import START, T5, T5Config
from training.texts import read_texts
from training.train import REPORT_EVERY, learning_rate
from training.unigram import add_unigram, train_unigram

NAME = "motet-tiny-t5"
CONTEXT = 256
PEAK_RATE = 2e-3
BATCH_TOKENS = 1024  # of the prompts of a step, at most
STORY_COPIES = 4
IGNORED = -100  # as a target
PROMPTS = (
    "find the key: Lily and her mom went to the park. The pass key is 58219. They saw a big dog.",
    "last word: One day, a little boy found a red ball in the garden.",
    "change Tim to Lily: Tim had a red ball. Tim was happy.",
)
SPELT = "“It’s done,”\nsaid  Lily {58219} ☃"
# Until this share of the run: tokens of the longest prompts of a step, and the chance of each.
CURRICULUM = (
    (0.3, {32: 1.0}),
    (0.5, {32: 0.5, 64: 0.4, 128: 0.1}),
    (1.0, {32: 0.25, 64: 0.45, 128: 0.15, CONTEXT: 0.15}),
)
SHORT = {"key": 0.4, "last": 0.2, "change": 0.4}  # share of each kind in prompts to 64 tokens
LONG = {"key": 0.6, "last": 0.4}  # and in longer ones

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def rows(questions: list[Question], vocabulary: spm.SentencePieceProcessor) -> Rows:
    """Prompts [B, S], which are no padding, the answers from START on [B, T], and their targets."""
    end = vocabulary.eos_id()
    prompts = [[*vocabulary.encode(q.prompt), end] for q in questions]
    answers = [[*vocabulary.encode(q.answer), end] for q in questions]
    tokens = _padded(prompts, START)
    lengths = torch.tensor([len(ids) for ids in prompts])
    real = torch.arange(tokens.shape[1]) < lengths[:, None]
    return (
        tokens,
        real,
        _padded([[START, *a[:-1]] for a in answers], START),
        _padded(answers, IGNORED),
    )


def _padded(lists: list[list[int]], filler: int) -> torch.Tensor:
    longest = max(map(len, lists))
    return torch.tensor([ids + [filler] * (longest - len(ids)) for ids in lists])


@dataclass(frozen=True)
class Lessons:
    """The rows of each step, by seed and step alone."""

    questions: Questions
    seed: int

    def batch(self, step: int, steps: int) -> Rows:
        rng = np.random.default_rng((self.seed, step))
        chances = next(c for until, c in CURRICULUM if step < until * steps or until == 1)
        longest = int(rng.choice(list(chances), p=list(chances.values())))
        shares = SHORT if longest <= 64 else LONG
        kinds = rng.choice(list(shares), BATCH_TOKENS // longest, p=list(shares.values()))
        asked = [self.questions.ask(kind, longest, rng) for kind in kinds]
        return rows(asked, self.questions.vocabulary)


def make_optimizer(model: T5) -> torch.optim.AdamW:
    """As the others', but queries are as much slower as their weights are smaller."""
    queries = {id(p) for name, p in model.named_parameters() if name.endswith("q.weight")}
    share = model.config.head_dim**-0.5
    parts = {"matrices": [], "vectors": [], "queries": []}
    for parameter in model.parameters():
        kind = "matrices" if parameter.ndim == 2 else "vectors"
        parts["queries" if id(parameter) in queries else kind].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parts["matrices"], "weight_decay": 0.1, "share": 1.0},
            {"params": parts["vectors"], "weight_decay": 0.0, "share": 1.0},
            {"params": parts["queries"], "weight_decay": 0.1, "share": share},
        ],
        lr=PEAK_RATE,
        betas=(0.9, 0.95),
    )


def train_step(
    model: T5, optimizer: torch.optim.Optimizer, lessons: Lessons, step: int, steps: int
) -> float:
    """One step; returns its loss in nats a token, the mean of the means of the answers."""
    tokens, real, answer, target = lessons.batch(step, steps)
    logits = model(tokens, real, answer).transpose(1, 2)
    losses = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")
    loss = (losses.sum(1) / (target != IGNORED).sum(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, steps, PEAK_RATE) * group["share"]
    optimizer.step()
    return loss.item()


@torch.no_grad()
def exact_match(model: T5, questions: Questions, kind: str, longest: int, count: int) -> float:
    """Share of answers that are right to the last token, as greedy generation writes them."""
    rng = np.random.default_rng((EVALUATION_SEED, longest))
    asked = [questions.ask(kind, longest, rng) for _ in range(count)]
    _, _, _, target = batch = rows(asked, questions.vocabulary)
    right = model(*batch[:3]).argmax(-1) == target
    return round((right | (target == IGNORED)).all(1).double().mean().item(), 4)


def accuracy(model: T5, questions: Questions, count: int) -> dict[str, dict[str, float]]:
    """``exact_match`` by kind and length of the prompt."""
    lengths = {kind: (32, 64) if kind == "change" else (32, 64, 128, CONTEXT) for kind in KINDS}
    return {
        kind: {str(n): exact_match(model, questions, kind, n, count) for n in lengths[kind]}
        for kind in KINDS
    }


@torch.no_grad()
def answer(model: T5, vocabulary: spm.SentencePieceProcessor, prompt: str) -> str:
    """The greedy answer."""
    tokens, real, _, _ = rows([Question(prompt, "")], vocabulary)
    ids = [START]
    while len(ids) <= LONGEST_ANSWER:
        token = int(model(tokens, real, torch.tensor([ids]))[0, -1].argmax())
        if token == vocabulary.eos_id():
            break
        ids.append(token)
    return vocabulary.decode(ids[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("src/motet/data"))
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)

    texts = read_texts(options.texts)
    vocabulary = train_unigram(texts)
    trained = Questions(documents_of(texts, STORY_COPIES, options.seed), vocabulary)
    held_out = Questions([d for text in texts for d in text.held_out], vocabulary)
    lessons = Lessons(trained, options.seed)
    model = T5(T5Config(vocabulary.vocab_size(), CONTEXT))
    untrained = accuracy(model.eval(), held_out, 100)
    optimizer = make_optimizer(model)
    log, since, started, used = [], [], time.time(), time.process_time()
    for step in range(1, options.steps + 1):
        since.append(train_step(model.train(), optimizer, lessons, step - 1, options.steps))
        if step % REPORT_EVERY == 0 or step == options.steps:
            log.append({"step": step, "loss": round(sum(since) / len(since), 4)})
            if step % (8 * REPORT_EVERY) == 0 or step == options.steps:
                log[-1]["exact_match"] = accuracy(model.eval(), held_out, 25)
            print(json.dumps(log[-1] | {"seconds": round(time.time() - started)}), flush=True)
            since = []
    seconds = {"wall_seconds": time.time() - started, "cpu_seconds": time.process_time() - used}
    path = options.out / f"{NAME}.gguf"
    write_model(path, NAME, model.eval(), partial(add_unigram, vocabulary=vocabulary))
    record = {
        "name": NAME,
        "file": {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "license": LICENSE_NOTE,
        "data": [{"file": text.name, "bytes": text.size, "sha256": text.sha256} for text in texts],
        "training": {
            "seed": options.seed,
            "steps": options.steps,
            "tokens_per_step": BATCH_TOKENS,
            "curriculum": CURRICULUM,
            "kinds": {"to 64 tokens": SHORT, "longer": LONG},
            "optimizer": f"AdamW, peak rate {PEAK_RATE}, warm-up and cosine",
            **{name: round(value, 1) for name, value in seconds.items()},
            "threads": 1,
            "log": log,
        },
        "exact_match": accuracy(model, held_out, 200),
        "untrained": untrained,
        "answers": {prompt: answer(model, vocabulary, prompt) for prompt in PROMPTS},
        "tokenized": {text: vocabulary.encode(text) for text in (*PROMPTS, SPELT)},
        "versions": versions(),
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
