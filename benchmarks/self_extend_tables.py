"""The tables of docs/self-extend.md, from what was measured."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.self_extend_measure import GROUPS, SEEDS, TRIED, TRIED_LENGTHS, VARIANTS, WINDOWS
from motet.evals.needle import Found

NAMES = [variant.name for variant in VARIANTS]
JUDGED = (1024, 2048, 4096)
"""4 to 16 times the trained length."""
LIMITS = (
    ("plain", max, "at most 0.10"),
    ("Self-Extend", min, "at least 0.80"),
    ("Self-Extend, log", min, "at least 0.95"),
)
Nats = Mapping[str, Mapping[int, float]]
"""Nats a token by variant and length."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def share(found: Sequence[Found], score: str = "exact") -> str:
    return f"{sum(one.right(score) for one in found) / len(found):.2f}"


def beyond(one: Found, trained: int) -> bool:
    """Whether the needle is farther from the question than the trained length."""
    return one.length > trained and (1 - one.depth) * one.length >= trained


def found_table(found: Sequence[Found], trained: int, score: str = "exact") -> str:
    """All depths, and in brackets those of needles beyond the trained distance, if there are."""
    rows = []
    for n in SEEDS:
        row = [f"{n} ({n // trained}x)"]
        for variant in NAMES:
            some = [one for one in found if (one.variant, one.length) == (variant, n)]
            far = [one for one in some if beyond(one, trained)]
            row.append(share(some, score) + (f" ({share(far, score)})" if far else ""))
        rows.append(row)
    return table(["tokens", *NAMES], rows)


def files_table(found: Sequence[Found], trained: int) -> str:
    """Of LongLM's files: how many of the prompts of a length."""
    rows = []
    for n in sorted({one.length for one in found}):
        row = [f"{n} ({n / trained:.0f}x)"]
        for variant in NAMES:
            some = [one.exact for one in found if (one.variant, one.length) == (variant, n)]
            row.append(f"{sum(some)} of {len(some)}")
        rows.append(row)
    return table(["tokens", *NAMES], rows)


def likelihood_table(nats: Nats, trained: int) -> str:
    base = nats["plain"][trained]
    rows = [
        [f"{n} ({n // trained}x)"]
        + [f"{nats[variant][n]:.3f} ({nats[variant][n] - base:+.3f})" for variant in NAMES]
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


def worst(found: Sequence[Found], variant: str, pick: Callable) -> float:
    """The greatest or least share found of the lengths that are judged."""
    shares = []
    for n in JUDGED:
        some = [one.exact for one in found if (one.variant, one.length) == (variant, n)]
        shares.append(sum(some) / len(some))
    return pick(shares)


def criteria(keys: Mapping[str, Sequence[Found]], nats: Mapping[str, Nats], trained: int) -> str:
    """What was asked for at 4 to 16 times the trained length, and what was measured.

    Plain attention is judged by needles beyond the trained distance, for it may find the others;
    Self-Extend by all.
    """
    rows = []
    for text, found in keys.items():
        far = [one for one in found if beyond(one, trained)]
        for variant, pick, limit in LIMITS:
            every, judged = worst(found, variant, pick), worst(far, variant, pick)
            bound = float(limit[-4:])
            met = judged <= bound if pick is max else every >= bound
            name, answer = f"pass keys in {text}, {variant}", "yes" if met else "no"
            rows.append([name, limit, f"{every:.2f} ({judged:.2f})", answer])
    for text, by_variant in nats.items():
        for variant in NAMES[2:]:
            value = max(
                (by_variant[variant][n] - by_variant["plain"][trained] for n in JUDGED), key=abs
            )
            met = "yes" if abs(value) <= 0.1 else "no"
            rows.append(
                [f"likelihood of {text}, {variant}", "within 0.1 nat", f"{value:+.3f}", met]
            )
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
