"""From nothing to a model's first token, and on: packed files beside what they are packed of.

    python -m benchmarks.first_token MODEL [MODEL …] [--turns 5] [--steps 16] [--threads N]

Each measurement is a process of its own, with the files in the page cache; models take turns. "all"
is from the process's start (Python's own included) to the first token after a prompt of one word:
"import" what Motet takes of it, "load" ``Model.load``, "token" the decode's part, the prompt's too.
"processor" is the processor's time of all threads. "a token more": of ``--steps`` decodes that
follow. "own" is memory that no other process can share (Private_Dirty), "large" the part of the
mapped weights that stands in large pages.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import click

_PROMPT = "Once"
_PIECE = 8 << 20


def measure(model: str, steps: int, threads: int | None) -> dict[str, float]:
    """Seconds and megabytes; in a process of its own."""
    started = _started()
    at = time.time()
    import motet

    times = {"python": at - started}
    load = motet.Model.load
    times["import"] = time.time() - at
    at = time.time()
    loaded = load(model, threads)
    times["load"] = time.time() - at
    at = time.time()
    tokenizer = loaded.tokenizer
    tokens = [1, 2, 3, 4] if tokenizer is None else tokenizer.encode(_PROMPT)
    context = loaded.context(max_tokens=len(tokens) + steps + 1)
    batch = motet.Batch()
    batch.extend(tokens, 0, logits="last")
    token = int(context.decode(batch).logits[-1].argmax())
    times["token"] = time.time() - at
    times["all"] = time.time() - started
    times["processor"] = time.process_time()
    at, processor = time.time(), time.process_time()
    for step in range(steps):
        batch = motet.Batch()
        batch.extend([token], len(tokens) + step, logits="last")
        token = int(context.decode(batch).logits[-1].argmax())
    times["a token more"] = (time.time() - at) / max(1, steps)
    times["its processor"] = (time.process_time() - processor) / max(1, steps)
    return times | _memory()


def _started() -> float:
    """When this process began, as ``time.time`` counts."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    alive = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - alive


def _memory() -> dict[str, float]:
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        found[name] = int(value.split()[0]) * 1024 / 1e6
    return {"own": found["Private_Dirty"], "large": found.get("FilePmdMapped", 0.0)}


def _warm(model: str) -> None:
    """Read a model's files into the page cache, as far as they are not there."""
    path = Path(model)
    for each in sorted(path.iterdir()) if path.is_dir() else [path]:
        with each.open("rb", buffering=0) as file:
            while file.read(_PIECE):
                pass


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--turns", default=5)
@click.option("--steps", default=16)
@click.option("--threads", type=int)
@click.option("--one", is_flag=True, hidden=True)
def main(models: tuple[str, ...], turns: int, steps: int, threads: int | None, one: bool) -> None:
    """See above."""
    if one:
        print(json.dumps(measure(models[0], steps, threads)))
        return
    results: dict[str, list[dict[str, float]]] = {model: [] for model in models}
    for turn in range(turns + 1):
        for model in models:
            _warm(model)
            command = [sys.executable, "-m", "benchmarks.first_token", model, "--one"]
            command += ["--steps", str(steps)]
            command += [] if threads is None else ["--threads", str(threads)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            if turn:  # the first one compiles Python's modules
                results[model].append(json.loads(output))
    names = list(next(iter(results.values()))[0])
    print("| model | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for model, found in results.items():
        cells = []
        for name in names:
            values = [each[name] for each in found]
            if name in ("own", "large"):
                cells.append(f"{max(values):.0f} MB")
            else:
                cells.append(f"{min(values) * 1e3:.0f} to {median(values) * 1e3:.0f} ms")
        print(f"| {Path(model).name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
