"""Prefill of a long context beside llama.cpp, with and without its flash attention.

    python -m benchmarks.random_models llama-3.2-1b-1-layer q8_0
    python benchmarks/long_prefill.py MODEL.gguf --tokens 32768 --peer-python PYTHON

Engines take turns, each in a process of its own, 512 tokens at a time. Printed are the tokens per
second of the whole, of each engine's best turn, and those of the last 512 tokens alone.
"""

import argparse
import json
import os
import subprocess
import sys
from time import perf_counter, process_time

PIECE = 512
ENGINES = {"Motet": None, "llama.cpp": 0, "llama.cpp, flash attention": 1}


def work(engine_name: str, model: str, threads: int, tokens: int) -> None:
    """Answer each line with the seconds of all pieces and of the last."""
    import workers

    workers.CONTEXT = tokens + PIECE
    flash = ENGINES[engine_name]
    if flash is None:
        engine = workers.Motet(model, threads)
    else:
        workers.LlamaCpp.flash = flash
        engine = workers.LlamaCpp(model, threads)
    clock = process_time if threads == 1 else perf_counter
    ids = workers.some_tokens(tokens, engine.n_vocab)
    for _ in sys.stdin:
        engine.clear()
        start = last = clock()
        for at in range(0, tokens, PIECE):
            last = clock()
            engine.step([(0, at, ids[at : at + PIECE])])
        print(json.dumps([clock() - start, clock() - last]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--work", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tokens % PIECE:
        parser.error(f"--tokens is no multiple of {PIECE}")
    if options.work:
        return work(options.work, options.model, options.threads, options.tokens)
    running = {}
    for name, flash in ENGINES.items():
        command = [sys.executable if flash is None else options.peer_python, __file__]
        command += [options.model, "--work", name, "--threads", str(options.threads)]
        command += ["--tokens", str(options.tokens)]
        running[name] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    best: dict[str, list[float]] = {}
    for _ in range(options.turns):
        for name, process in running.items():
            assert process.stdin is not None
            assert process.stdout is not None
            print("go", file=process.stdin, flush=True)
            said = process.stdout.readline()
            if not said:
                raise SystemExit(f"{name} ended with status {process.wait()}")
            best[name] = min(best.get(name, json.loads(said)), json.loads(said))
    print(f"| {options.tokens} tokens | tokens/s | of the last {PIECE} | Motet's by these |")
    print("|---|---|---|---|")
    ours = best["Motet"]
    for name, (total, last) in best.items():
        ratios = f"{total / ours[0]:.2f}, {last / ours[1]:.2f}"
        print(f"| {name} | {options.tokens / total:.1f} | {PIECE / last:.1f} | {ratios} |")
    return None


if __name__ == "__main__":
    main()
