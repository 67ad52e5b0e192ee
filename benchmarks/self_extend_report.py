"""Measure what docs/self-extend.md reports, draw its figures and put its tables in.

    python -m benchmarks.self_extend_report --texts ../shared/data/text

About 20 minutes on one core. What is measured is kept in build/self-extend, so that a run that was
ended is gone on from; remove the folder to measure anew. Between the marks `<!-- NAME -->` and
`<!-- /NAME -->` of the document stands what this script writes; the rest of it is written by hand.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.self_extend_measure import (
    ARMS,
    AS_TRAINED,
    GROUPS,
    SCORED,
    SEEDS,
    SEGMENTS,
    SWEEP_LENGTH,
    TRIED,
    TRIED_LENGTHS,
    WINDOWS,
    Kept,
    likelihoods,
    positions,
    say,
    search_all,
    sweep,
    tried,
)
from motet import Model
from motet.cli.plots import save_curves, save_heat_maps, save_matrices
from motet.evals.needle import Found, grid
from motet.self_extend import relative_positions
from training.texts import read_texts

ROOT = Path(__file__).parents[1]
TINY = ROOT / "src" / "motet" / "data" / "motet-tiny.gguf"
ORDER = ROOT / "training" / "models" / "motet-order.gguf"
DOCUMENT = ROOT / "docs" / "self-extend.md"
FIGURES = ROOT / "docs" / "figures"
NAMES = [arm.name for arm in ARMS]
JUDGED = (1024, 2048, 4096)
"""4 to 16 times the trained length."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def share(found: Sequence[Found], score: str = "exact") -> str:
    return f"{sum(one.right(score) for one in found) / len(found):.2f}" if found else "–"


def beyond(one: Found, trained: int) -> bool:
    """Whether the needle is farther from the question than the trained length."""
    return (1 - one.depth) * one.length >= trained


def found_table(found: Sequence[Found], trained: int, score: str = "exact") -> str:
    """All depths, and in brackets those of needles beyond the trained distance."""
    rows = []
    for n in SEEDS:
        row = [f"{n} ({n // trained}x)"]
        for arm in NAMES:
            some = [one for one in found if (one.arm, one.length) == (arm, n)]
            far = [one for one in some if beyond(one, trained)]
            row.append(f"{share(some, score)} ({share(far, score)})")
        rows.append(row)
    return table(["tokens", *NAMES], rows)


def likelihood_table(nats: Mapping[str, Mapping[int, float]], trained: int) -> str:
    base = nats["plain"][trained]
    rows = [
        [f"{n} ({n // trained}x)"]
        + [f"{nats[arm][n]:.3f} ({nats[arm][n] - base:+.3f})" for arm in NAMES]
        for n in SEEDS
    ]
    return table(["tokens", *NAMES], rows)


def sweep_table(cells: Mapping[tuple[int, int], Sequence[float]]) -> str:
    def cell(window: int, group: int) -> str:
        value = cells.get((window, group))
        return "out of reach" if value is None else f"{value[0]:.2f} · {value[1]:.3f}"

    rows = [[f"window {w}", *(cell(w, g) for g in GROUPS)] for w in WINDOWS]
    return table(["", *(f"group {g}" for g in GROUPS)], rows)


def tried_table(cells: Mapping[tuple[int, float, int], Sequence[float]], trained: int) -> str:
    rows = [
        [
            f"{window} (1/{trained // window})",
            f"{reach:.2f}",
            *(f"{cells[window, reach, n][0]:.2f} · {cells[window, reach, n][1]:.3f}"
              for n in TRIED_LENGTHS),
        ]
        for window, reach in TRIED
    ]  # fmt: skip
    return table(["window", "reach", *(f"{n} tokens" for n in TRIED_LENGTHS)], rows)


def criteria(
    keys: Mapping[str, Sequence[Found]], nats: Mapping[str, Mapping[int, float]], trained: int
) -> str:
    """What was asked for at 4 to 16 times the trained length, and what was measured."""

    def worst(found: Sequence[Found], arm: str, pick: Callable, far: bool) -> float:
        values = []
        for n in JUDGED:
            some = [one for one in found if (one.arm, one.length) == (arm, n)]
            some = [one for one in some if beyond(one, trained)] if far else some
            values.append(sum(one.exact for one in some) / len(some))
        return pick(values)

    rows = []
    for text, found in keys.items():
        for arm, pick, limit in (
            ("plain", max, "at most 0.10"),
            ("Self-Extend", min, "at least 0.80"),
            ("Self-Extend, log", min, "at least 0.95"),
        ):
            every, far = (worst(found, arm, pick, only) for only in (False, True))
            bound = float(limit[-4:])
            met = far <= bound if pick is max else every >= bound
            name, answer = f"pass keys in {text}, {arm}", "yes" if met else "no"
            rows.append([name, limit, f"{every:.2f} ({far:.2f})", answer])
    for arm in NAMES[2:]:
        value = max((nats[arm][n] - nats["plain"][trained] for n in JUDGED), key=abs)
        met = "yes" if abs(value) <= 0.1 else "no"
        rows.append([f"likelihood of text, {arm}", "within 0.1 nat", f"{value:+.3f}", met])
    return table(["4x to 16x, the worst length", "wanted", "measured", "met"], rows)


def cost_table(path: Path) -> str | None:
    """Of benchmarks/self_extend.py --json, if it was run."""
    if not path.exists():
        return None
    rows = [
        [
            one["model"],
            one["work"],
            f"{one['plain']:.1f}",
            f"{one['extended']:.1f}",
            f"{one['more time']:+.1%}",
        ]
        for one in json.loads(path.read_text())
    ]
    return table(["model", "", "plain, tokens/s", "Self-Extend, tokens/s", "more time"], rows)


def maps(found: Sequence[Found]) -> dict[str, dict]:
    return {arm: grid([one for one in found if one.arm == arm], "exact") for arm in NAMES}


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
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "self-extend")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    FIGURES.mkdir(exist_ok=True)
    kept = Kept(options.work / "measured.json")
    model = Model.load(TINY, options.threads)
    trained = model.config.context_length
    # The last twentieth of each text, which no training step saw.
    text = "\n".join("\n".join(one.held_out) for one in read_texts(options.texts))
    tokens = model.tokenizer.encode(text, add_special=False)

    work = options.work
    keys = {
        "LongLM's filler": search_all(model, None, "passkey", work / "filler.jsonl"),
        "prose": search_all(model, text, "passkey", work / "prose.jsonl", AS_TRAINED),
    }
    nats = likelihoods(model, tokens, list(SEEDS), kept)
    curve = positions(model, tokens, max(SEEDS), kept)
    order_model = Model.load(ORDER, options.threads)
    order = search_all(order_model, None, "order", work / "order.jsonl")
    swept = sweep(model, text, tokens, kept)
    tries = tried(model, text, tokens, kept)

    save_matrices(
        {
            "group 2, window 4 (the paper's Fig. 3)": relative_positions(10, 2, 4),
            "group 3, window 4": relative_positions(12, 3, 4),
        },
        FIGURES / "relative-positions.svg",
    )
    save_heat_maps([maps(found) for found in keys.values()], FIGURES / "pass-keys.svg")
    save_heat_maps([maps(order)], FIGURES / "order.svg")
    middles = [(one["first"] * one["last"]) ** 0.5 for one in curve if one["first"] >= 16]
    save_curves(
        {arm: (middles, [one["nll"][arm] for one in curve if one["first"] >= 16]) for arm in NAMES},
        FIGURES / "by-position.svg",
        xlabel="position in the text",
        ylabel="nats a token",
        marks={f"trained length, {trained}": trained},
    )
    parts = {
        "criteria": criteria(keys, nats, trained),
        "filler": found_table(keys["LongLM's filler"], trained),
        "prose": found_table(keys["prose"], trained),
        "order": found_table(order, trained),
        "order, likelihood": found_table(order, trained, "likelihood"),
        "likelihood": likelihood_table(nats, trained),
        "sweep": sweep_table(swept),
        "auto": tried_table(tries, trained),
    }
    cost = cost_table(options.work / "cost.json")
    fill(parts | ({} if cost is None else {"cost": cost}))
    scored = SEGMENTS * SCORED
    say(f"wrote {DOCUMENT} ({scored} tokens scored; sweep at {SWEEP_LENGTH}) and {FIGURES}")


if __name__ == "__main__":
    main()
