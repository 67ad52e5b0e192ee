"""What a model has learnt: held-out loss, pass keys by length and depth, recall, a story."""

import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F

from training.data import TRAINED_LENGTH, Diet
from training.tasks import ANSWER_WEIGHT, Row

EVALUATION_SEED = 7777  # rows that no training step draws
PRIOR = 50  # of bigram_loss, near its best; 20 to 100 change it by less than 0.03
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


@torch.no_grad()
def held_out_loss(model: torch.nn.Module, diet: Diet, rows: int = 16) -> dict[str, float]:
    """Nats a token on passages of TRAINED_LENGTH tokens from each text's held-out part."""
    passages = held_out_passages(diet, rows)
    return {n: round(_losses(model, tokens).mean().item(), 4) for n, tokens in passages.items()}


def bigram_loss(diet: Diet, rows: int = 16) -> dict[str, float]:
    """As ``held_out_loss``, of a model that knows the training texts' pairs of tokens alone.

    A pair's share is drawn towards its second token's own as if PRIOR more tokens had been seen.
    """
    n_vocab = diet.tasks.vocabulary.vocab_size()
    pairs = np.zeros((n_vocab, n_vocab))
    for stream in diet.train.values():
        np.add.at(pairs, (stream.tokens[:-1], stream.tokens[1:]), 1)
    alone = (pairs.sum(0) + 1) / (pairs.sum() + n_vocab)
    share = (pairs + PRIOR * alone) / (pairs.sum(1, keepdims=True) + PRIOR)
    return {
        name: round(-np.log(share[tokens[:, :-1], tokens[:, 1:]]).mean().item(), 4)
        for name, tokens in held_out_passages(diet, rows).items()
    }


def held_out_passages(diet: Diet, rows: int) -> dict[str, np.ndarray]:
    """The rows [rows, TRAINED_LENGTH + 1] that losses are measured on, by text."""
    passages = {}
    for name, stream in diet.held_out.items():
        rng = np.random.default_rng(EVALUATION_SEED)
        made = [diet.tasks.text(stream, TRAINED_LENGTH, rng)[0] for _ in range(rows)]
        passages[name] = np.stack(made)
    return passages


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
            by_depth[f"{depth:g}"] = share_answered(model, made)
        result[str(length)] = by_depth
    return result


@torch.no_grad()
def share_answered(model: torch.nn.Module, rows: list[Row]) -> float:
    """Share of the rows whose answer's tokens are all the likeliest."""
    tokens = torch.from_numpy(np.stack([row for row, _ in rows]))
    answers = torch.from_numpy(np.stack([w for _, w in rows]))[:, 1:] == ANSWER_WEIGHT
    right = model(tokens[:, :-1]).argmax(-1) == tokens[:, 1:]
    return round((right | ~answers).all(1).double().mean().item(), 4)


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
