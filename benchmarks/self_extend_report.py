"""Measure what docs/self-extend.md reports, draw its figures and put its tables in.

    python -m benchmarks.self_extend_report --texts ../shared/data/text --longlm FILES

FILES are LongLM's own (github.com/datamllab/LongLM): passkey_examples.jsonl, and of its folder
legacy_patch_before_4_38 passkey_examples_5k.jsonl and passkey_examples_10k.jsonl. About 45 minutes
on one core. What is measured is kept in build/self-extend, so that a run that was ended is gone on
from; remove the folder to measure anew. Between the marks `<!-- NAME -->` and `<!-- /NAME -->` of
the document stands what this script writes; the rest of it is written by hand.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.self_extend_measure import (
    AS_TRAINED,
    SCORED,
    SEEDS,
    SEGMENTS,
    SWEEP_LENGTH,
    Kept,
    haystacks,
    likelihoods,
    longlms_form,
    positions,
    published,
    say,
    search_all,
    sweep,
    tried,
)
from benchmarks.self_extend_tables import (
    NAMES,
    cost_table,
    criteria,
    files_table,
    found_table,
    likelihood_table,
    sweep_table,
    tried_table,
)
from motet import Model
from motet.cli.perplexity import draw_by_position
from motet.cli.pictures import save_heat_maps, save_matrices
from motet.evals.haystack import FILLER, Trial
from motet.evals.needle import Found, grid
from motet.self_extend import relative_positions
from training.texts import read_texts

ROOT = Path(__file__).parents[1]
PROOF = ROOT / "training" / "models" / "motet-proof.gguf"
TINY = ROOT / "src" / "motet" / "data" / "motet-tiny.gguf"
DOCUMENT = ROOT / "docs" / "self-extend.md"
FIGURES = ROOT / "docs" / "figures"


def maps(found: Sequence[Found]) -> dict[str, dict]:
    names = dict.fromkeys(one.variant for one in found)
    return {
        variant: grid([one for one in found if one.variant == variant], "exact")
        for variant in names
    }


def pass_keys(model: Model, prose: str, path: Path) -> dict[str, list[Found]]:
    """By the text that they are hidden in; ``path``: of the files, before what tells them apart."""

    def found(name: str, trials: Sequence[Trial], text: str | None = None) -> list[Found]:
        return search_all(model, trials, path.with_name(f"{path.name}-{name}.jsonl"), text)

    return {
        "LongLM's filler": found("filler", haystacks(model, None, "passkey")),
        "LongLM's own form": found("longlm", longlms_form(model)),
        "prose": found("prose", haystacks(model, prose, "passkey", AS_TRAINED), prose),
    }


def fill(parts: Mapping[str, str]) -> None:
    """Put each part between its marks. Raises SystemExit for one without a place."""
    text = DOCUMENT.read_text("utf-8")
    for name, part in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, count = re.subn(
            pattern, lambda m, part=part: f"{m[1]}{part}\n{m[2]}", text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"{DOCUMENT} has {count} places for {name}")
    DOCUMENT.write_text(text, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--longlm", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "self-extend")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    FIGURES.mkdir(exist_ok=True)
    proof, tiny = (Model.load(path, options.threads) for path in (PROOF, TINY))
    trained = proof.config.context_length
    # The last twentieth of each text, which no training step saw.
    prose = "\n".join("\n".join(one.held_out) for one in read_texts(options.texts))
    longest = max(SEEDS)
    in_prose = proof.tokenizer.encode(prose, add_special=False)
    in_filler = proof.tokenizer.encode(FILLER * (longest // 8), add_special=False)

    measured = Kept(work / "proof.json")
    keys = pass_keys(proof, prose, work / "proof")
    files = search_all(proof, published(proof, options.longlm), work / "proof-published.jsonl")
    order = search_all(proof, haystacks(proof, None, "order"), work / "proof-order.jsonl")
    nats = {
        "prose": likelihoods(proof, "prose", in_prose, list(SEEDS), measured),
        "LongLM's filler": likelihoods(proof, "filler", in_filler, list(SEEDS), measured),
    }
    curve = positions(proof, in_prose, longest, measured)
    swept = sweep(proof, prose, in_prose, measured)
    tries = tried(proof, prose, in_prose, measured)

    shipped = Kept(work / "tiny.json")
    tiny_keys = pass_keys(tiny, prose, work / "tiny")
    tiny_files = search_all(tiny, published(tiny, options.longlm), work / "tiny-published.jsonl")
    tiny_nats = likelihoods(tiny, "prose", in_prose, list(SEEDS), shipped)

    matrices = {
        "group 2, window 4 (the paper's Fig. 3)": relative_positions(10, 2, 4),
        "group 3, window 4": relative_positions(12, 3, 4),
    }
    save_matrices(matrices, FIGURES / "relative-positions.svg")
    save_heat_maps([maps(found) for found in keys.values()], FIGURES / "pass-keys.svg")
    save_heat_maps([maps(order)], FIGURES / "order.svg")
    save_heat_maps([maps(found) for found in tiny_keys.values()], FIGURES / "tiny-pass-keys.svg")
    shown = [bucket for bucket in curve if bucket.first >= 16]
    draw_by_position(NAMES, shown, trained, FIGURES / "by-position.svg")
    parts = {
        "criteria": criteria(keys, nats, trained),
        "filler": found_table(keys["LongLM's filler"], trained),
        "longlm": found_table(keys["LongLM's own form"], trained),
        "longlm, files": files_table(files, trained),
        "prose": found_table(keys["prose"], trained),
        "order": found_table(order, trained),
        "order, likelihood": found_table(order, trained, "likelihood"),
        "likelihood": likelihood_table(nats["prose"], trained),
        "filler, likelihood": likelihood_table(nats["LongLM's filler"], trained),
        "sweep": sweep_table(swept),
        "auto": tried_table(tries, trained),
        "tiny, filler": found_table(tiny_keys["LongLM's filler"], trained),
        "tiny, longlm": found_table(tiny_keys["LongLM's own form"], trained),
        "tiny, longlm, files": files_table(tiny_files, trained),
        "tiny, prose": found_table(tiny_keys["prose"], trained),
        "tiny, likelihood": likelihood_table(tiny_nats, trained),
    }
    cost = cost_table(work / "cost.json")
    fill(parts | ({} if cost is None else {"cost": cost}))
    scored = SEGMENTS * SCORED
    say(f"wrote {DOCUMENT} ({scored} tokens scored; sweep at {SWEEP_LENGTH}) and {FIGURES}")


if __name__ == "__main__":
    main()
