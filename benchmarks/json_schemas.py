"""A suite of JSON schemas: which compile, and whether answers satisfy them.

    python -m benchmarks.json_schemas MODEL FOLDER… [--sample N] [--seeds N] [--close BIAS]

Each FOLDER has schemas as `*.json`, in folders of its own or not: those of JSONSchemaBench
(https://github.com/guidance-ai/jsonschemabench, `data/`), or of any other suite. A schema is
compiled or refused; the model answers under it at temperature 1 with nothing cut off, once a seed;
an answer that ended by itself is read as JSON and validated by the library `jsonschema`, formats
too. One line a folder, then every answer that should have been valid and is not, and how often each
reason of a refusal came. The exit status is 1 if there was such an answer.
"""

import argparse
import json
import random
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import jsonschema
import referencing
from jsonschema.validators import validator_for

from motet import LLM, MotetError, Sampling
from motet.grammar import Grammar

AT_ONCE = 16
PROMPT = "The answer: "
BRACKETS = (b"}", b"]"), (b'"',), (b",",)
"""Closing ones, and others that lengthen or shorten JSON."""
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|\d+|/\S*/""")


@dataclass
class Outcome:
    """Of a schema. ``refused``: why; ``answers``: how each ended, "valid", "length" or an error."""

    path: Path
    refused: str = ""
    seconds: float = 0.0
    """To compile it."""
    answers: list[str] = field(default_factory=list[str])
    tokens: int = 0


def sampling_of(llm: LLM, close: float) -> Sampling:
    """Temperature 1, and nothing cut off. ``close``: bias of tokens that make JSON shorter."""
    assert llm.tokenizer is not None
    biases: dict[int, float] = {}
    for token in range(llm.tokenizer.n_vocab if close else 0):
        piece = llm.tokenizer.piece(token)
        brackets, quotes, commas = (sum(map(piece.count, each)) for each in BRACKETS)
        biases[token] = close * (2 * brackets + quotes - commas)
    return Sampling(logit_bias=biases, temperature=1, top_k=0, top_p=1, min_p=0)


def outcome_of(llm: LLM, path: Path, sampling: Sampling, seeds: int, max_tokens: int) -> Outcome:
    outcome = Outcome(path)
    started = perf_counter()
    try:
        schema = json.loads(path.read_text())
        grammar = llm.grammars.json_schema(schema)
    except (MotetError, ValueError) as error:
        outcome.refused = str(error)
        return outcome
    finally:
        outcome.seconds = perf_counter() - started
    for seed in range(seeds):
        text, ended, tokens = answer(llm, grammar, replace(sampling, seed=seed), max_tokens)
        outcome.tokens += tokens
        outcome.answers.append(ended if ended != "stop" else problem_of(schema, text))
    return outcome


def answer(llm: LLM, grammar: Grammar, sampling: Sampling, max_tokens: int) -> tuple[str, str, int]:
    """Text, how it ended, and tokens."""
    try:
        completion = llm.generate(PROMPT, sampling, grammar=grammar, max_tokens=max_tokens)
    except MotetError as error:
        return "", f"error: {error}", 0
    return completion.text, completion.finish_reason, len(completion.tokens)


def problem_of(schema: Any, text: str) -> str:
    """ "valid", or what is wrong with an answer."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}: {text[:200]!r}"
    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    nothing_remote = referencing.Registry[Any]()
    validator = kind(schema, registry=nothing_remote, format_checker=kind.FORMAT_CHECKER)
    try:
        error = next(iter(validator.iter_errors(value)), None)
    except Exception as failure:  # a schema that the library can't use, such as one of Draft 3
        return f"not validated: {type(failure).__name__}: {failure}"
    return "valid" if error is None else f"{error.json_path}: {error.message[:200]}: {text[:200]!r}"


def kind_of(ending: str) -> str:
    known = ("valid", "length", "error", "not validated")
    return next((kind for kind in known if ending.startswith(kind)), "INVALID")


def report(outcomes: list[Outcome]) -> int:
    """Print the tables; how many answers were not valid."""
    print(
        "| suite | schemas | refused | answers | valid | length | error | not validated | INVALID |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    suites = sorted({outcome.path.parent.name for outcome in outcomes})
    total = [line(outcomes, "all")]
    for row in [line([o for o in outcomes if o.path.parent.name == s], s) for s in suites] + total:
        print("| " + " | ".join(row) + " |")
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    print(f"\nslowest to compile or refuse: {slowest.seconds:.2f} s, {slowest.path}")
    print(f"tokens: {sum(outcome.tokens for outcome in outcomes):,}\n")
    wrong = 0
    for outcome in outcomes:
        for seed, ending in enumerate(outcome.answers):
            if kind_of(ending) not in ("valid", "length"):
                wrong += kind_of(ending) == "INVALID"
                print(f"{outcome.path} seed {seed}: {ending}")
    reasons = Counter(_QUOTED.sub("…", outcome.refused)[:110] for outcome in outcomes)
    del reasons[""]
    print("\nrefused:")
    for reason, count in reasons.most_common(30):
        print(f"{count:6} {reason}")
    return wrong


def line(outcomes: list[Outcome], name: str) -> list[str]:
    kinds = Counter(kind_of(ending) for outcome in outcomes for ending in outcome.answers)
    refused = sum(bool(outcome.refused) for outcome in outcomes)
    counts = [len(outcomes), refused, sum(kinds.values())]
    counts += [kinds[kind] for kind in ("valid", "length", "error", "not validated", "INVALID")]
    return [name, *map(str, counts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--sample", type=int, help="at most so many of each folder")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--close",
        type=float,
        default=0.0,
        metavar="BIAS",
        help="added to a token's logit for a quote, twice for a closing bracket, taken for a"
        " comma; for models that would go on for ever",
    )
    parser.add_argument("--max-tokens", type=int, default=1000)
    arguments = parser.parse_args()
    paths: list[Path] = []
    for folder in arguments.folders:
        found = sorted(folder.rglob("*.json"))
        count = min(len(found), arguments.sample or len(found))
        paths += random.Random(0).sample(found, count)
    with LLM(arguments.model, max_sequences=AT_ONCE, self_extend="auto") as llm:
        llm.grammars.prepare()
        sampling = sampling_of(llm, arguments.close)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            work = [
                pool.submit(outcome_of, llm, path, sampling, arguments.seeds, arguments.max_tokens)
                for path in paths
            ]
            outcomes = [each.result() for each in work]
    sys.exit(1 if report(outcomes) else 0)


if __name__ == "__main__":
    main()
