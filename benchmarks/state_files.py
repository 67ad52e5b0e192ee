"""How fast a state is saved and restored, beside what the disk does with as many bytes.

    python benchmarks/state_files.py MODEL.gguf [--tokens 4096] [--turns 3] [--folder .]

The state has the shape of that model's (benchmarks/random_models.py makes one of Gemma 2 2B) and
random keys and values, so no weights are loaded and nothing is computed. In each turn, one after
the other: a plain file of the same size is written and flushed to the disk, and read with the page
cache dropped; the state is saved, and restored into a fresh context with the cache dropped. The
table shows median (least to greatest), and says so where the cache stayed.
"""

import argparse
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from motet import Batch, Context
from motet.kernels import PAGE, Kernels
from motet.kernels.interface import PagedKV
from motet.kernels.reference import Reference
from motet.models.registry import declared
from motet.spec import CacheSpec
from motet.weights.fingerprint import Fingerprint
from motet.weights.gguf import GGUFFile

PIECE = 4 << 20
RANDOM = Fingerprint("random", "random", "random")


@dataclass
class Shape:
    """A model that computes nothing: its layers remember random numbers."""

    config: Any
    caches: tuple[tuple[CacheSpec, ...], ...]
    default_kv_type: str = "f16"
    fingerprint: Fingerprint = RANDOM
    kernels: Kernels = field(default_factory=Reference)
    blocks: tuple[Any, ...] = ()
    pooled_heads: dict[str, Any] = field(default_factory=dict)
    name: str = "a shape"

    @property
    def family(self) -> "Shape":
        return self

    def forward(self, tokens: np.ndarray, view: Any, wanted: np.ndarray) -> np.ndarray:
        """Fill what this micro-batch writes."""
        noise = np.random.default_rng(0).integers(0, 256, PIECE + 64, np.uint8)
        for layer in range(len(self.caches)):
            memory = view.cache(layer)
            if isinstance(memory, PagedKV):
                for page in np.unique(memory.tables.slots // PAGE):
                    target = memory.pages.buffer[page]  # pyright: ignore
                    target[:] = np.resize(noise[page % 64 :], len(target))
            else:
                for array in memory.arrays:
                    target = array[memory.runs.write]
                    array[memory.runs.write] = np.resize(noise[:PIECE], target.shape) / 256
        return np.zeros((len(wanted), self.config.d_model), np.float32)

    def head(self, hidden: np.ndarray) -> np.ndarray:
        return np.zeros((len(hidden), self.config.n_vocab), np.float32)


def shape(path: Path) -> Shape:
    """Of the model in a GGUF file."""
    with GGUFFile.open(path) as file:
        family = declared(file)
    return Shape(family.config, family.caches)


def filled(model: Shape, tokens: int) -> Context:
    """A context that holds a sequence of so many tokens."""
    context = Context(model, max_tokens=tokens, ubatch=tokens, checkpoint_bytes=0)
    batch = Batch()
    batch.extend(np.arange(tokens) % 1000, 0)
    context.decode(batch)
    return context


def drop_cache(path: Path) -> bool:
    """Let the system forget the file's content; whether it did, as far as can be seen."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for at in range(0, path.stat().st_size, PIECE):
            try:
                os.preadv(file.fileno(), [bytearray(1)], at, os.RWF_NOWAIT)
            except BlockingIOError:
                continue
            except OSError:  # a file system that can't tell
                return False
            return False
    return True


def write_plain(path: Path, size: int) -> float:
    """Seconds to write random bytes to a file and flush it, in large pieces."""
    data = np.random.default_rng(0).integers(0, 256, PIECE, np.uint8)
    start = perf_counter()
    with path.open("wb", buffering=0) as file:
        for at in range(0, size, PIECE):
            file.write(memoryview(data)[: size - at])  # type: ignore[arg-type]
        os.fsync(file.fileno())
    return perf_counter() - start


def read_plain(path: Path) -> float:
    """Seconds to read a file, in large pieces."""
    data = memoryview(bytearray(PIECE))
    start = perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(data):
            pass
    return perf_counter() - start


def measure(model: Shape, tokens: int, turns: int, folder: Path) -> dict[str, Any]:
    """Seconds of each kind of work in each turn, the bytes of the state, and what was cached."""
    context = filled(model, tokens)
    state, plain = folder / "motet-benchmark.state", folder / "motet-benchmark.plain"
    times: dict[str, list[float]] = {"write": [], "read": [], "save": [], "restore": []}
    dropped = True
    try:
        context.save(state)
        size = state.stat().st_size
        for _ in range(turns):
            times["write"].append(write_plain(plain, size))
            dropped &= drop_cache(plain)
            times["read"].append(read_plain(plain))
            start = perf_counter()
            context.save(state)
            times["save"].append(perf_counter() - start)
            dropped &= drop_cache(state)
            other = Context(model, max_tokens=tokens, checkpoint_bytes=0)
            start = perf_counter()
            other.restore(state)
            times["restore"].append(perf_counter() - start)
            assert other.memory.length(0) == tokens
    finally:
        state.unlink(missing_ok=True)
        plain.unlink(missing_ok=True)
    return {"bytes": size, "cache_dropped": dropped, "seconds": times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(shape(options.model), options.tokens, options.turns, options.folder)
    print(f"{options.model.name}, {options.tokens} tokens: {found['bytes'] / 1e6:.0f} MB")
    speeds = {
        work: [found["bytes"] / 1e9 / second for second in seconds]
        for work, seconds in found["seconds"].items()
    }
    for work, plain in (("save", "write"), ("restore", "read")):
        for name, what in ((plain, f"disk, {plain}"), (work, work)):
            each = speeds[name]
            print(f"  {what:12} {median(each):5.2f} GB/s  ({min(each):.2f} to {max(each):.2f})")
        print(f"  {work} / {plain}: {median(speeds[work]) / median(speeds[plain]):.2f}")
    if not found["cache_dropped"]:
        print("  (the page cache was not dropped, so that reads are not the disk's)")
    if options.json:
        options.json.write_text(json.dumps(found | {"gb_s": speeds}, indent=1))


if __name__ == "__main__":
    main()
