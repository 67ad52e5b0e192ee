"""What the Self-Extend report measures; each measurement is kept as soon as it is there."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from motet import Model
from motet.evals.haystack import (
    ASK_KEY,
    TASKS,
    WRONG,
    Haystacks,
    Puzzle,
    Task,
    Trial,
    different_keys,
)
from motet.evals.long_perplexity import Bucket, by_position, passages_of
from motet.evals.needle import Found, search
from motet.evals.needle_results import Results
from motet.evals.passkeys import Passkeys, read_passkeys
from motet.evals.predictions import TokenSpan, log_probabilities
from motet.evals.variants import PLAIN, Variant
from motet.self_extend import FARTHEST, AutoExtend, SelfExtend, growing_groups

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = {256: 6, 512: 6, 1024: 6, 2048: 6, 4096: 4, 8192: 3}
"""Haystacks of a length and depth. The trained length is 256."""
SEGMENTS, SCORED = 16, 128
"""Places whose likelihood is asked, and tokens of each."""
SWEEP_LENGTH = 2048
WINDOWS, GROUPS = (16, 32, 64, 128, 192), (12, 16, 24, 32, 64, 128)
TRIED = ((32, 1 / 2), (32, 2 / 3), (64, 1 / 2), (64, 2 / 3), (64, 0.85), (128, 2 / 3), (128, 0.85))
"""Windows and reaches of auto."""
TRIED_LENGTHS = (512, 2048, 4096)


@dataclass(frozen=True)
class ScaleAlone(SelfExtend):
    """The query scale without groups, as far as one likes: what of the effect is the scale's."""

    def longest_context(self, trained: int) -> int:
        return FARTHEST


@dataclass(frozen=True)
class Auto(AutoExtend):
    """Auto with another window (tokens) and reach (share of the trained length)."""

    window: int = 64
    reach: float = 2 / 3

    def window_of(self, trained: int) -> int:
        return self.window

    def groups_at(self, positions: np.ndarray, trained: int) -> np.ndarray:
        return growing_groups(positions, trained, self.window, self.reach)


VARIANTS = (
    PLAIN,
    Variant("plain, log", ScaleAlone(1, 1, "log")),
    Variant("Self-Extend", AutoExtend()),
    Variant("Self-Extend, log", AutoExtend("log")),
)


def passkey_once(rng: np.random.Generator, digits: int) -> Puzzle:
    """A pass key in the words that motet-tiny was trained on."""
    key, *others = different_keys(rng, digits, 1 + WRONG)
    return [f"The pass key is {key}. Remember it."], ASK_KEY, key, others


AS_TRAINED = {"passkey": passkey_once}


class Kept:
    """Measurements by name in a JSON file, made once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._values:
            self._values[name] = make()
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(self._values))
            new.replace(self._path)
        return self._values[name]


def haystacks(
    model: Model, text: str | None, task: str, tasks: Mapping[str, Task] = TASKS
) -> list[Trial]:
    """Of every length, depth and seed."""
    maker = Haystacks(model.tokenizer, text, tasks=tasks)
    return _every(partial(maker.make, task))


def longlms_form(model: Model) -> list[Trial]:
    """As ``haystacks``, in the form of LongLM's files."""
    return _every(Passkeys(model.tokenizer).make)


def published(model: Model, paths: Sequence[Path]) -> list[Trial]:
    """The prompts of LongLM's files, each once."""
    trials: dict[tuple[int, ...], Trial] = {}
    for path in paths:
        for trial in read_passkeys(path.read_text("utf-8"), str(path), model.tokenizer):
            trials.setdefault(trial.prompt, trial)
    return list(trials.values())


def _every(make: Callable[[int, float, int], Trial]) -> list[Trial]:
    return [
        make(length, depth, seed)
        for length, seeds in SEEDS.items()
        for depth in DEPTHS
        for seed in range(seeds)
    ]


def search_all(
    model: Model, trials: Sequence[Trial], path: Path, text: str | None = None
) -> list[Found]:
    """Every variant and trial, made of ``text``; goes on from what ``path`` holds."""
    results = Results(path, {"model": model.fingerprint.weights, "text": _digest(text)})
    for variant in VARIANTS:
        for length in sorted({trial.length for trial in trials}):
            left = [
                trial
                for trial in trials
                if trial.length == length and (variant.name, *trial.key) not in results.known
            ]
            for some in search(model, left, variant):
                results.add(some)
            found = [
                one.exact
                for one in results.known.values()
                if (one.variant, one.length) == (variant.name, length)
            ]
            say(f"{path.stem}, {variant.name}, {length}: {sum(found)} of {len(found)} found")
    return list(results.known.values())


def likelihoods(
    model: Model, name: str, tokens: Sequence[int], lengths: Sequence[int], kept: Kept
) -> dict:
    """Nats a token, by variant and length: the same tokens each time, after more and more text.

    ``name``: of the text.
    """
    ids = np.array(tokens, np.int64)
    ends = np.linspace(max(lengths), len(ids), SEGMENTS).astype(int)
    table: dict[str, dict[int, float]] = {}
    for variant in VARIANTS:
        row = table[variant.name] = {}
        for n in lengths:
            texts = [ids[end - n : end] for end in ends]
            known = f"likelihood, {name}, {variant.name}, {n}"
            row[n] = kept.get(
                known, lambda variant=variant, texts=texts: likelihood(model, variant, texts)
            )
            say(f"{known}: {row[n]:.3f}")
    return table


def likelihood(model: Model, variant: Variant, texts: Sequence[np.ndarray]) -> float:
    """Mean nats a token of the last SCORED tokens of each text; BOS stands in for its first."""
    logs = []
    for text in texts:
        n = len(text)
        context = model.context(context_length=n, max_tokens=n, self_extend=variant.self_extend)
        first, last = text[: n - SCORED - 1].copy(), text[n - SCORED - 1 : -1]
        first[0] = model.tokenizer.bos
        spans = [TokenSpan(first, 0, 0), TokenSpan(last, len(first), 0, text[-SCORED:, None])]
        logs += [*log_probabilities(context, spans, 2048, model.config.n_vocab)]
    return -float(np.mean(logs))


def found_share(model: Model, text: str, variant: Variant, length: int, seeds: int) -> float:
    """Pass keys found of all depths."""
    maker = Haystacks(model.tokenizer, text, tasks=AS_TRAINED)
    trials = [maker.make("passkey", length, d, s) for d in DEPTHS for s in range(seeds)]
    found = [one.exact for some in search(model, trials, variant) for one in some]
    return sum(found) / len(found)


def sweep(model: Model, text: str, tokens: Sequence[int], kept: Kept) -> dict:
    """(window, group): pass keys found and nats a token at SWEEP_LENGTH, where it is in reach."""
    trained = model.config.context_length
    settings = [SelfExtend(group, window) for window in WINDOWS for group in GROUPS]
    return {
        (setting.window, setting.group): _both(
            model, text, tokens, Variant(f"fixed, {setting}", setting), SWEEP_LENGTH, kept
        )
        for setting in settings
        if setting.longest_context(trained) >= SWEEP_LENGTH
    }


def tried(model: Model, text: str, tokens: Sequence[int], kept: Kept) -> dict:
    """(window, reach, length): pass keys found and nats a token of auto's alternatives."""
    return {
        (window, reach, n): _both(
            model,
            text,
            tokens,
            Variant(f"auto, window {window}, reach {reach:.2f}", Auto(None, window, reach)),
            n,
            kept,
        )
        for window, reach in TRIED
        for n in TRIED_LENGTHS
    }


def _both(
    model: Model, text: str, tokens: Sequence[int], variant: Variant, length: int, kept: Kept
) -> list[float]:
    def make() -> list[float]:
        ids = np.array(tokens, np.int64)
        ends = np.linspace(length, len(ids), SEGMENTS // 2).astype(int)
        nats = likelihood(model, variant, [ids[end - length : end] for end in ends])
        return [found_share(model, text, variant, length, 3), nats]

    name = f"{variant.name}, {length}"
    value = kept.get(name, make)
    say(f"{name}: {value[0]:.2f} found, {value[1]:.3f} nats")
    return value


def positions(model: Model, tokens: Sequence[int], length: int, kept: Kept) -> list[Bucket]:
    """Likelihood by position of the four variants."""

    def make() -> list[tuple]:
        texts = passages_of(tokens, length, 5, model.tokenizer.bos)
        *_, result = by_position(model, texts, VARIANTS)
        return [astuple(bucket) for bucket in result.means()]

    return [Bucket(*values) for values in kept.get(f"positions, {length}", make)]


def say(text: str) -> None:
    print(text, flush=True)


def _digest(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()
