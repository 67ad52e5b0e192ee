"""What a JSON schema costs a step: the same answers with and without one, turn by turn, in one run.

    python -m benchmarks.grammar MODEL [--vocabulary GGUF] [--sequences N…] [--steps N] [--turns N]

`--vocabulary`: for a model of random weights without one, that of another GGUF file, cut to the
model's size. In a turn, each number of sequences answers once freely and once as an array of
objects (now one first, now the other); a step's time is that between tokens, and its processor time
that of all threads. The median of the turns, the spread, and the ratios turn by turn.
"""

import argparse
from collections.abc import Mapping
from statistics import median
from time import perf_counter, process_time
from typing import Any

from motet import LLM, Model, Sampling
from motet.grammar import Grammar
from motet.opening import open_model
from motet.tokenizer import from_gguf

SCHEMA = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "mail": {"type": "string", "format": "email"},
            "kind": {"enum": ["person", "company", "unknown"]},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
        },
        "required": ["name", "age", "mail", "kind", "tags"],
        "additionalProperties": False,
    },
}
PROMPT = list(range(5, 37))


def cut(metadata: Mapping[str, Any], n_vocab: int) -> dict[str, Any]:
    """Metadata of a vocabulary's first tokens."""
    kept = dict(metadata)
    for key in ("tokens", "token_type", "scores"):
        name = f"tokenizer.ggml.{key}"
        if name in kept:
            kept[name] = kept[name][:n_vocab]
    known, merges = set(kept["tokenizer.ggml.tokens"]), "tokenizer.ggml.merges"
    if merges in kept:
        kept[merges] = [m for m in kept[merges] if {*m.split(" ", 1), m.replace(" ", "")} <= known]
    return kept


def step_times(
    llm: LLM, sequences: int, steps: int, seed: int, grammar: Grammar | None
) -> tuple[float, float]:
    """Seconds between tokens, of answers that begin together, and of all processors a step."""
    before = process_time()
    sampling = Sampling(temperature=1, seed=seed)
    made = llm.generate(PROMPT, sampling, n=sequences, max_tokens=steps, grammar=grammar)
    answers = made if isinstance(made, list) else [made]
    assert all(len(answer.tokens) == steps for answer in answers)
    timings = [answer.timings for answer in answers]
    busy = (process_time() - before) / steps
    return max(t.total - t.time_to_first_token for t in timings) / (steps - 1), busy


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("--vocabulary")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=33)
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    model = Model.load(arguments.model)
    if arguments.vocabulary:
        with open_model(arguments.vocabulary) as file:
            model.tokenizer = from_gguf(cut(file.metadata, model.n_vocab))
    most = max(arguments.sequences)
    with LLM(model, max_sequences=most, max_tokens=len(PROMPT) + arguments.steps) as llm:
        started = perf_counter()
        llm.grammars.prepare()
        prepared = perf_counter()
        grammar = llm.grammars.json_schema(SCHEMA)
        print(
            f"{model.n_vocab:,} tokens; vocabulary prepared in {prepared - started:.2f} s, ", end=""
        )
        print(f"schema compiled in {(perf_counter() - prepared) * 1e3:.1f} ms\n")
        print("| sequences | free, ms a step | schema, ms a step | ratio | of processor time |")
        print("|---|---|---|---|---|")
        for sequences in arguments.sequences:
            free: list[tuple[float, float]] = []
            held: list[tuple[float, float]] = []
            for turn in range(-1, arguments.turns):
                order = ((None, free), (grammar, held))
                for given, times in order if turn % 2 else order[::-1]:
                    time = step_times(llm, sequences, arguments.steps, turn + 1, given)
                    if turn >= 0:
                        times.append(time)
            shown = [f"{sequences}", *(spread([t for t, _ in each], 1e3) for each in (free, held))]
            for kind in (0, 1):
                ratios = [b[kind] / a[kind] for a, b in zip(free, held, strict=True)]
                shown.append(spread(ratios, 1))
            print(f"| {' | '.join(shown)} |", flush=True)


def spread(values: list[float], scale: float) -> str:
    least, greatest = min(values) * scale, max(values) * scale
    return f"{median(values) * scale:.3f} ({least:.3f} to {greatest:.3f})"


if __name__ == "__main__":
    main()
