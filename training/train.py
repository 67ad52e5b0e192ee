"""Train a tiny model: ``python -m training.train --texts ../shared/data/text``."""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from training.data import Diet
from training.evaluate import held_out_loss, pass_key_accuracy
from training.models import MODELS, TinyModel
from training.texts import read_texts
from training.vocabulary import load_vocabulary, train_vocabulary

PEAK_RATE = 3e-3
WARM_UP = 100
REPORT_EVERY = 50
SAVE_EVERY = 200


def learning_rate(step: int, steps: int, peak: float = PEAK_RATE) -> float:
    """Linear warm-up, then a cosine down to 3 % of the peak."""
    if step < WARM_UP:
        return peak * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / (steps - WARM_UP)
    return peak * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model: torch.nn.Module) -> torch.optim.AdamW:
    """AdamW; norm weights and other vectors are not decayed, nor are the rates of a scan."""
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2 and not name.endswith("log_a")
        (decayed if matrix else others).append(parameter)
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=PEAK_RATE,
        betas=(0.9, 0.95),
    )


def train_step(
    model: TinyModel, optimizer: torch.optim.Optimizer, diet: Diet, step: int, steps: int
) -> float:
    """One step; returns its weighted loss in nats a token, without the model's auxiliary loss."""
    batch = diet.batch(step, steps)
    tokens = torch.from_numpy(batch.tokens)
    weights = torch.from_numpy(batch.weights)[:, 1:].reshape(-1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens[:, :-1])
    losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].reshape(-1), reduction="none")
    loss = (losses * weights).sum() / weights.sum()
    optimizer.zero_grad()
    (loss + model.auxiliary_loss()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, steps)
    optimizer.step()
    return loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="motet-tiny", choices=MODELS)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/training"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)

    texts = read_texts(options.texts)
    train_vocabulary(texts, options.out / "vocabulary.model")
    vocabulary = load_vocabulary(options.out / "vocabulary.model")
    diet = Diet(texts, vocabulary, options.seed)
    model = MODELS[options.model](vocabulary.vocab_size())
    optimizer = make_optimizer(model)
    log, since, started = [], [], time.time()
    for step in range(options.steps):
        since.append(train_step(model, optimizer, diet, step, options.steps))
        last = step + 1 == options.steps
        if (step + 1) % REPORT_EVERY == 0 or last:
            entry = {
                "step": step + 1,
                "loss": round(sum(since) / len(since), 4),
                "seconds": round(time.time() - started, 1),
                "cpu_seconds": round(time.process_time(), 1),
            }
            if (step + 1) % SAVE_EVERY == 0 or last:
                model.eval()
                entry["held_out_loss"] = held_out_loss(model, diet)
                entry["pass_key"] = pass_key_accuracy(model, diet, [64, 128, 256], rows=20)
                model.train()
                log.append(entry)
                state = {
                    "model": model.state_dict(),
                    "name": options.model,
                    "seed": options.seed,
                    "steps": options.steps,
                    "log": log,
                }
                path = options.out / f"{options.model}.pt"
                torch.save(state, path.with_suffix(".new"))
                path.with_suffix(".new").replace(path)
            else:
                log.append(entry)
            since = []
            print(json.dumps(entry), flush=True)


if __name__ == "__main__":
    main()
