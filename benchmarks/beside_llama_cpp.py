"""Motet beside llama.cpp on the same files, in one run, turn by turn.

    python benchmarks/beside_llama_cpp.py MODEL.gguf… [--peer-python PYTHON] [--busy] [--json FILE]
    python benchmarks/beside_llama_cpp.py MODEL-bf16.gguf… --torch [--peer-python PYTHON]
    python benchmarks/beside_llama_cpp.py MODEL.gguf… --tree DIR

`--peer-python` is a Python that has llama-cpp-python (this one if not given); `--torch` takes
Hugging Face's model of the same shape as well, with random BF16 weights in its memory; `--tree` is
another checkout of Motet, with its kernels built in src/motet/kernels, to compare with instead (run
this one so too, with PYTHONPATH=src); `--busy` keeps one other process computing meanwhile. Each
measurement alternates the engines and reports medians, the spread (least to greatest) and the
median of the ratios turn by turn. With one thread times are the process's own: what other programs
take of its core does not count.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
MEASUREMENTS = {
    # name: (what, size, parallel, tokens before)
    "prefill 512": ("prefill", 512, 1, 0),
    "decode": ("decode", 32, 1, 32),
    "8 sequences": ("decode", 16, 8, 16),
    "16 sequences": ("decode", 8, 16, 16),
}
ENCODED = {
    "encode 512": ("encode", 512, 1, 0),
    "decode": ("decode", 32, 1, 32),
    "decode, 512 encoded": ("decode", 32, 1, 512),
    "8 sequences": ("decode", 16, 8, 16),
}
"""Of encoder-decoders; the last number is of tokens that are encoded for each sequence."""


class Worker:
    def __init__(
        self, python: str, engine: str, model: str, threads: int, tree: Path | None = None
    ) -> None:
        path = {} if tree is None else {"PYTHONPATH": str((tree / "src").resolve())}
        self.process = subprocess.Popen(
            [python, str(HERE / "workers.py"), engine, model, str(threads)],
            env=os.environ | path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.load = self._answer()["load"]

    def _answer(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, what: str, **rest: int) -> dict:
        assert self.process.stdin is not None
        print(json.dumps({"what": what, **rest}), file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compute_forever() -> None:
    while True:
        sum(range(100_000))


def measure(
    model: str,
    peer: str,
    tree: Path | None,
    torch: bool,
    threads: int,
    turns: int,
    only: list[str],
) -> dict:
    workers = {"motet": Worker(sys.executable, "motet", model, threads)}
    if tree is None:
        workers["llama_cpp"] = Worker(peer, "llama_cpp", model, threads)
    else:
        workers["other tree"] = Worker(sys.executable, "motet", model, threads, tree)
    if torch:
        workers["torch"] = Worker(peer, "torch", model, threads)
    facts = {name: worker.ask("facts") for name, worker in workers.items()}
    rows = {}
    measurements = ENCODED if facts["motet"]["encodes"] else MEASUREMENTS
    for name, (what, size, parallel, before) in measurements.items():
        if only and name not in only:
            continue
        rates: dict[str, list[float]] = {engine: [] for engine in workers}
        for turn in range(turns + 1):
            for engine, worker in workers.items():
                seconds = worker.ask(what, size=size, parallel=parallel, before=before)
                if turn:  # the first warms up
                    rates[engine].append(size * parallel / float(seconds))  # type: ignore[arg-type]
                time.sleep(0.3)  # let the other's threads go to sleep
        rows[name] = rates
    bandwidth = [facts["motet"]["read_gb_s"], workers["motet"].ask("facts")["read_gb_s"]]
    for worker in workers.values():
        worker.close()
    return {"model": Path(model).stem, "rates": rows, "facts": facts, "read_gb_s": bandwidth}


def report(result: dict) -> None:
    bandwidth = max(result["read_gb_s"])
    print(f"\n{result['model']}: reading {bandwidth:.1f} GB/s")
    _, *peers = result["facts"]
    heads = "".join(f" {peer} tokens/s | ratio |" for peer in peers)
    print(f"| | Motet tokens/s |{heads}\n|---|---|{'---|---|' * len(peers)}")
    for name, rates in result["rates"].items():
        ours = rates["motet"]
        cells = f"| {name} | {_spread(ours)} |"
        for theirs in (rates[peer] for peer in peers):
            ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
            cells += f" {_spread(theirs)} | {ratio:.2f} |"
        print(cells)
        if name == "decode":
            gb = result["facts"]["motet"]["bytes_per_token"] / 1e9
            share = median(ours) * gb / bandwidth
            share_cell = f"{share:.2f} ({gb:.2f} GB a token)"
            print(f"| … of the read bandwidth | {share_cell} |{' | |' * len(peers)}")


def _spread(rates: list[float]) -> str:
    return f"{median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--tree", type=Path, metavar="DIR")
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], choices=[*MEASUREMENTS, *ENCODED])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    other = multiprocessing.Process(target=compute_forever, daemon=True)
    if options.busy:
        other.start()
    results = []
    for model in options.models:
        found = measure(
            model,
            options.peer_python,
            options.tree,
            options.torch,
            options.threads,
            options.turns,
            options.only,
        )
        results.append(found)
        report(results[-1])
    if options.busy:
        other.terminate()
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
