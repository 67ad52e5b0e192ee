"""Embeddings of many sentences, and of a short one: Motet beside others, turn by turn, in one run.

    python -m benchmarks.encoders FOLDER… [--peer-python PYTHON] [--texts N] [--turns N]

`FOLDER`: what `benchmarks.encoder_models` wrote. `--peer-python` has sentence-transformers,
fastembed and llama-cpp-python. Every engine is given the same texts, tokenizes them, and returns
normalised vectors, on two threads; before anything is timed they are compared. Medians, the spread
(least to greatest) and the median of the ratios turn by turn.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

THREADS = 2
ENGINES = {
    "motet F32": "motet:F32",
    "sentence-transformers F32": "sentence_transformers:",
    "FastEmbed F32": "fastembed:model.onnx",
    "llama.cpp F32": "llama_cpp:F32",
    "motet F16": "motet:F16",
    "llama.cpp F16": "llama_cpp:F16",
    "motet Q8_0": "motet:Q8_0",
    "FastEmbed int8": "fastembed:model_int8.onnx",
    "llama.cpp Q8_0": "llama_cpp:Q8_0",
}
PEERS = {
    "motet F32": ("sentence-transformers F32", "FastEmbed F32", "llama.cpp F32"),
    "motet F16": ("llama.cpp F16",),
    "motet Q8_0": ("FastEmbed int8", "llama.cpp Q8_0"),
}


def texts_of(folder: Path, count: int) -> list[str]:
    """Sentences of 8 to 256 tokens, of words that are one token each."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(w for w in vocabulary if w.isascii() and w.isalpha() and w.islower())
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, 257, count) - 2  # [CLS] and [SEP] are tokens too
    return [" ".join(words[i] for i in rng.integers(0, len(words), n)) for n in lengths]


class Motet:
    def __init__(self, folder: Path, type: str) -> None:
        from motet import LLM, Model

        self._llm = LLM(Model.load(folder / f"model-{type}.gguf", threads=THREADS))

    def embed(self, texts: list[str]) -> Any:
        return self._llm.embed(texts)


class SentenceTransformers:
    def __init__(self, folder: Path, _: str) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(THREADS)
        self._model = SentenceTransformer(str(folder), device="cpu")

    def embed(self, texts: list[str]) -> Any:
        return self._model.encode(texts, show_progress_bar=False)


class FastEmbed:
    def __init__(self, folder: Path, file: str) -> None:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        settings = json.loads((folder / "1_Pooling" / "config.json").read_text())
        mean = settings["pooling_mode_mean_tokens"]
        TextEmbedding.add_custom_model(
            model="random",
            pooling=PoolingType.MEAN if mean else PoolingType.CLS,
            normalization=True,
            sources=ModelSource(hf="random"),
            dim=settings["word_embedding_dimension"],
            model_file=f"onnx/{file}",
        )
        self._model = TextEmbedding("random", specific_model_path=str(folder), threads=THREADS)

    def embed(self, texts: list[str]) -> Any:
        # Sorted, in batches of 32: its own batches of 256, padded to the longest, take far longer.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = list(self._model.embed([texts[i] for i in order], batch_size=32))
        out = np.empty((len(texts), len(vectors[0])), np.float32)
        out[order] = vectors
        return out


class LlamaCpp:
    def __init__(self, folder: Path, type: str) -> None:
        from llama_cpp import Llama

        self._model = Llama(
            str(folder / f"model-{type}.gguf"),
            embedding=True,
            n_ctx=2048,
            n_batch=2048,
            n_ubatch=2048,
            n_threads=THREADS,
            n_threads_batch=THREADS,
            n_seq_max=64,
            verbose=False,
        )

    def embed(self, texts: list[str]) -> Any:
        return np.array(self._model.embed(texts, normalize=True), np.float32)


KINDS = {
    "motet": Motet,
    "sentence_transformers": SentenceTransformers,
    "fastembed": FastEmbed,
    "llama_cpp": LlamaCpp,
}


def serve(folder: Path, engine: str, count: int) -> None:
    """Answer each line, "all" or "one", with seconds; the vectors go to a file once."""
    kind, _, which = engine.partition(":")
    made, texts = KINDS[kind](folder, which), texts_of(folder, count)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print
    print("ready", file=answers)
    for line in sys.stdin:
        what, _, file = line.strip().partition(" ")
        asked = texts if what == "all" else ["the quick brown fox jumps over the lazy dog"]
        start = perf_counter()
        vectors = made.embed(asked)
        print(perf_counter() - start, file=answers)
        if file:
            np.save(file, vectors)


class Worker:
    def __init__(self, python: str, folder: Path, engine: str, count: int) -> None:
        command = [python, "-m", "benchmarks.encoders", str(folder), "--serve", engine]
        command += ["--texts", str(count)]
        # Threads that wait busily for their next work would slow down whoever is next.
        quiet = os.environ | {"OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "passive"}
        self._process = subprocess.Popen(
            command,
            env=quiet,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with status {self._process.wait()}")
        return line

    def ask(self, what: str) -> float:
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(
    folder: Path, engines: dict[str, str], peer: str, turns: int, count: int, scratch: Path
) -> dict[str, Any]:
    """Seconds of every engine, by what was asked, and how near their vectors are."""
    workers: dict[str, Worker] = {}
    seconds: dict[str, dict[str, list[float]]] = {}
    for name, engine in engines.items():
        python = sys.executable if engine.startswith("motet") else peer
        workers[name] = Worker(python, folder, engine, count)
        workers[name].ask(f"all {scratch / name.replace(' ', '-')}.npy")
        seconds[name] = {"all": [], "one": []}
    exact = np.load(scratch / "sentence-transformers-F32.npy")
    near = {
        name: float((np.load(scratch / f"{name.replace(' ', '-')}.npy") * exact).sum(1).min())
        for name in engines
    }
    for _ in range(turns):
        for name, worker in workers.items():
            seconds[name]["all"].append(worker.ask("all"))
            worker.ask("one")
            seconds[name]["one"].append(median(worker.ask("one") for _ in range(20)))
    for worker in workers.values():
        worker.close()
    return {"texts": count, "seconds": seconds, "least cosine": near}


def show(folder: Path, result: dict[str, Any]) -> None:
    print(f"\n## {folder.name}\n")
    print("| | texts a second | one short text, ms | least cosine to torch |")
    print("|---|---|---|---|")
    for name, each in result["seconds"].items():
        rates = sorted(result["texts"] / s for s in each["all"])
        times = sorted(1e3 * s for s in each["one"])
        print(
            f"| {name} | {median(rates):.1f} ({rates[0]:.1f} to {rates[-1]:.1f}) |"
            f" {median(times):.2f} ({times[0]:.2f} to {times[-1]:.2f}) |"
            f" {result['least cosine'][name]:.6f} |"
        )
    for ours, peers in PEERS.items():
        for peer in [peer for peer in peers if peer in result["seconds"]]:
            ratios = [
                median(
                    p / o
                    for o, p in zip(
                        *(result["seconds"][e][what] for e in (ours, peer)), strict=True
                    )
                )
                for what in ("all", "one")
            ]
            print(f"\n{ours} / {peer}: {ratios[0]:.2f} × the texts, {ratios[1]:.2f} × for one")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--without", default="none", help="leave out engines of this name")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.folders[0], given.serve, given.texts)
        return
    from tempfile import TemporaryDirectory

    engines = {name: how for name, how in ENGINES.items() if given.without not in name}
    results: dict[str, Any] = {}
    for folder in given.folders:
        with TemporaryDirectory() as scratch:
            results[folder.name] = measure(
                folder, engines, given.peer_python, given.turns, given.texts, Path(scratch)
            )
        show(folder, results[folder.name])
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
