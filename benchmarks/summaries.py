"""Long texts summarised, and pass keys found in them, by length: plain and with Self-Extend.

    python -m benchmarks.summaries --texts ../shared/data/text [--model FILE] [--write]

A text is the beginning of a chapter of Frankenstein that with its summary has as many tokens as is
said, 1 to 16 times those that the model was trained on; benchmarks/summaries.json has a summary of
each chapter to compare with. Answers are greedy. "cut" reads the last
tokens alone, as many as the model was trained on. --jsonl FILE writes the texts of one length for
lm-evaluation-harness' task motet_summaries. With --write the table and its figure go into
docs/self-extend.md.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from benchmarks.self_extend_measure import AS_TRAINED
from benchmarks.self_extend_report import FIGURES, TINY, fill
from benchmarks.self_extend_tables import table
from motet import Batch, Model
from motet.cli.pictures import save_curves
from motet.evals.haystack import Haystacks
from motet.evals.needle import search
from motet.evals.variants import PLAIN, Variant
from motet.self_extend import AutoExtend

HERE = Path(__file__).parent
ASKED = "\n\nIn short:"
MOST = 64
"""Tokens of a summary."""
TIMES = (1, 2, 4, 8, 16)
DEPTHS, SEEDS = (0.0, 0.25, 0.5, 0.75, 1.0), 2
VARIANTS = (PLAIN, Variant("Self-Extend", AutoExtend()))
KINDS = ("rouge1", "rougeL")


@dataclass(frozen=True)
class Chapter:
    tokens: list[int]
    summary: str


def chapters(model: Model, texts: Path) -> list[Chapter]:
    """Those that have a summary. Raises SystemExit for a book without one of them."""
    assert model.tokenizer is not None
    known = json.loads((HERE / "summaries.json").read_text("utf-8"))
    book = f"\n{(texts / known['book']).read_text('utf-8')}"
    found: list[Chapter] = []
    for number, summary in known["chapters"].items():
        _, begins, rest = book.partition(f"\nChapter {number}\n")
        if not begins:
            raise SystemExit(f"{known['book']} has no chapter {number}")
        text = rest.partition(f"\nChapter {int(number) + 1}\n")[0]
        found.append(Chapter(model.tokenizer.encode(text), summary))
    return found


def asked(model: Model, chapter: Chapter, length: int) -> list[int]:
    """A prompt that has ``length`` tokens with the summary, or all of a shorter chapter."""
    assert model.tokenizer is not None
    question = model.tokenizer.encode(ASKED, add_special=False)
    return [*chapter.tokens[: length - MOST - len(question)], *question]


def written(
    model: Model, prompts: Sequence[Sequence[int]], variant: Variant, length: int
) -> list[str]:
    """What the model says to each, at most ``MOST`` tokens and one paragraph."""
    assert model.tokenizer is not None
    context = model.context(
        max_sequences=len(prompts),
        max_tokens=len(prompts) * (length + MOST),
        context_length=length + MOST,
        self_extend=variant.self_extend,
    )
    said: list[list[int]] = [[] for _ in prompts]
    waiting = {seq: list(prompt) for seq, prompt in enumerate(prompts)}
    while waiting:
        batch = Batch()
        for seq, tokens in waiting.items():
            batch.extend(tokens, context.memory.length(seq), seq, "last")
        best = context.decode(batch).logits.argmax(axis=1)
        for seq, token in zip(tuple(waiting), best.tolist(), strict=True):
            said[seq].append(token)
            waiting[seq] = [token]
            ended = token in model.tokenizer.eog or len(said[seq]) == MOST
            if ended or "\n\n" in model.tokenizer.decode(said[seq]).lstrip():
                del waiting[seq]
    ends = model.tokenizer.eog
    texts = [model.tokenizer.decode([t for t in tokens if t not in ends]) for tokens in said]
    return [text.strip().partition("\n\n")[0] for text in texts]


def rouge(answers: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """Mean F1 of each kind."""
    scorer = RougeScorer(list(KINDS), use_stemmer=True)
    pairs = zip(wanted, answers, strict=True)
    scores = [scorer.score(reference, answer) for reference, answer in pairs]
    return {kind: float(np.mean([score[kind].fmeasure for score in scores])) for kind in KINDS}


def found(model: Model, prose: str, length: int, variant: Variant) -> float:
    maker = Haystacks(model.tokenizer, prose, tasks=AS_TRAINED)
    trials = [maker.make("passkey", length, at, n) for at in DEPTHS for n in range(SEEDS)]
    return float(np.mean([one.exact for some in search(model, trials, variant) for one in some]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--model", default=str(TINY))
    parser.add_argument("--times", type=int, nargs="+", default=TIMES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jsonl", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    model = Model.load(options.model, options.threads)
    assert model.tokenizer is not None
    trained = model.config.context_length
    every = chapters(model, options.texts)
    wanted = [chapter.summary for chapter in every]
    if options.jsonl:
        write_jsonl(model, every, max(options.times) * trained, options.jsonl)
        return
    prose = "\n".join(model.tokenizer.decode(chapter.tokens[1:]) for chapter in every)
    first = rouge([model.tokenizer.decode(chapter.tokens[1:MOST]) for chapter in every], wanted)
    rows, keys = [], {variant.name: [] for variant in VARIANTS}
    for times in options.times:
        length = times * trained
        prompts = [asked(model, chapter, length) for chapter in every]
        cut = [prompt[-(trained - MOST) :] for prompt in prompts]
        scores = [rouge(written(model, cut, PLAIN, trained), wanted)]
        for variant in VARIANTS:
            scores.append(rouge(written(model, prompts, variant, length), wanted))
            keys[variant.name].append(found(model, prose, length, variant))
        cells = [f"{score['rouge1']:.3f} / {score['rougeL']:.3f}" for score in scores]
        shares = [f"{keys[variant.name][-1]:.2f}" for variant in VARIANTS]
        rows.append([f"{length} ({times}x)", *cells, *shares])
        print(rows[-1], flush=True)
    header = ["tokens", "cut", *(v.name for v in VARIANTS), *(f"keys, {v.name}" for v in VARIANTS)]
    print(table(header, rows))
    print(f"the chapters' first {MOST} tokens: {first['rouge1']:.3f} / {first['rougeL']:.3f}")
    if options.write:
        lead = ["the chapter's first words", f"{first['rouge1']:.3f} / {first['rougeL']:.3f}"]
        fill({"summaries": table(header, [*rows, [*lead, *[""] * (len(header) - 2)]])})
        lengths = [times * trained for times in options.times]
        curves = {f"pass keys, {name}": (lengths, shares) for name, shares in keys.items()}
        for place, name in enumerate(header[1:4], 1):
            values = [float(row[place].partition(" ")[0]) for row in rows]
            curves[f"ROUGE-1, {name}"] = (lengths, values)
        marks = {"trained length": trained}
        path = FIGURES / "summaries.svg"
        save_curves(curves, path, xlabel="tokens", ylabel="ROUGE-1, share found", marks=marks)


def write_jsonl(model: Model, every: Sequence[Chapter], length: int, path: Path) -> None:
    assert model.tokenizer is not None
    with path.open("w", encoding="utf-8") as file:
        for chapter in every:
            text = model.tokenizer.decode(asked(model, chapter, length)[1:])
            file.write(json.dumps({"text": text, "summary": chapter.summary}) + "\n")


if __name__ == "__main__":
    main()
