"""What a model has learnt: held-out loss, pass keys by length and depth, recall, a story."""

import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F

from training.data import TRAINED_LENGTH, Diet
from training.tasks import ANSWER_WEIGHT

EVALUATION_SEED = 7777  # rows that no training step draws
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


@torch.no_grad()
def held_out_loss(model: torch.nn.Module, diet: Diet, rows: int = 16) -> dict[str, float]:
    """Nats a token on passages of TRAINED_LENGTH tokens from each text's held-out part."""
    losses = {}
    for name, stream in diet.held_out.items():
        rng = np.random.default_rng(EVALUATION_SEED)
        tokens = np.stack([diet.tasks.text(stream, TRAINED_LENGTH, rng)[0] for _ in range(rows)])
        losses[name] = round(_losses(model, tokens).mean().item(), 4)
    return losses


@torch.no_grad()
def pass_key_accuracy(
    model: torch.nn.Module, diet: Diet, lengths: list[int], rows: int = 50
) -> dict[str, dict[str, float]]:
    """Share of keys found whole, by row length and depth; filler is held-out text.

    A key counts when each token of the answer is the likeliest given what comes before it, which
    is when greedy generation writes it.
    """
    result = {}
    sources = list(diet.held_out.values())
    for length in lengths:
        by_depth = {}
        for depth in DEPTHS:
            rng = np.random.default_rng((EVALUATION_SEED, length, round(depth * 100)))
            made = [
                diet.tasks.pass_key(sources[i % len(sources)], length, rng, depth)
                for i in range(rows)
            ]
            tokens = torch.from_numpy(np.stack([row for row, _ in made]))
            answers = torch.from_numpy(np.stack([w for _, w in made]))[:, 1:] == ANSWER_WEIGHT
            right = model(tokens[:, :-1]).argmax(-1) == tokens[:, 1:]
            found = (right | ~answers).all(1)
            by_depth[f"{depth:g}"] = round(found.double().mean().item(), 4)
        result[str(length)] = by_depth
    return result


@torch.no_grad()
def recall_accuracy(
    model: torch.nn.Module, diet: Diet, lengths: list[int], rows: int = 50
) -> dict[str, float]:
    """Share of repeated random pieces that are the likeliest token, by row length."""
    result = {}
    for length in lengths:
        rng = np.random.default_rng((EVALUATION_SEED, length))
        made = [diet.tasks.recall(length, rng) for _ in range(rows)]
        tokens = torch.from_numpy(np.stack([row for row, _ in made]))
        scored = torch.from_numpy(np.stack([w for _, w in made]))[:, 1:] > 0
        right = model(tokens[:, :-1]).argmax(-1) == tokens[:, 1:]
        result[str(length)] = round(right[scored].double().mean().item(), 4)
    return result


@torch.no_grad()
def story(
    model: torch.nn.Module,
    vocabulary: spm.SentencePieceProcessor,
    prompt: str,
    tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> str:
    """The prompt and its continuation, greedy at temperature 0; stops at end-of-sequence."""
    generator = torch.Generator().manual_seed(seed)
    ids = [vocabulary.bos_id(), *vocabulary.encode(prompt)]
    while len(ids) < tokens:
        logits = model(torch.tensor([ids]))[0, -1]
        if temperature:
            probabilities = (logits / temperature).softmax(-1)
            token = int(torch.multinomial(probabilities, 1, generator=generator))
        else:
            token = int(logits.argmax())
        if token == vocabulary.eos_id():
            break
        ids.append(token)
    return vocabulary.decode(ids)


def _losses(model: torch.nn.Module, tokens: np.ndarray) -> torch.Tensor:
    ids = torch.from_numpy(tokens)
    logits = model(ids[:, :-1]).flatten(0, 1)
    return F.cross_entropy(logits, ids[:, 1:].reshape(-1), reduction="none")
