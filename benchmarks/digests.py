"""Digests of logits, to show that a change of the code changes no bit of them.

    python -m benchmarks.digests --shared ../shared/data > before.txt      # then the same, after
    python -m benchmarks.digests --shared ../shared/data --against before.txt

A line each for every small model, instruction set, kv type, split and Self-Extend setting: of a
prompt cut into small micro-batches, with tokens that sequences share, a fork, a rewind and some
steps of decoding.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

import motet
from motet.kernels import _cpu
from motet.runnable import Encodes, EncodesForDecoding

ROOT = Path(__file__).parents[1]
KV_TYPES = ("f32", "f16", "bf16", "q8_0")
SPLITS = ("simple", "equal", "sequence")
EXTENDED = {
    "plain": None,
    "3:5": motet.SelfExtend(3, 5),
    "auto log": motet.AutoExtend("log"),
}
_UBATCH = 24
_MOST = 200
"""Tokens of the longest sequence."""


def models(shared: Path | None) -> list[Path]:
    """Goldens, the shipped ones, the proof model, and what others published."""
    found = [*ROOT.glob("tests/parity/goldens/*.gguf"), *ROOT.glob("src/motet/data/*.gguf")]
    found += ROOT.glob("training/models/*.gguf")
    if shared is not None:
        found += shared.glob("stories260K/*.gguf")
        found += shared.glob("parity/*_q/*.gguf")
        for name in ("gemma2_46l", "rwkv6_real"):
            found += shared.glob(f"parity/{name}/*.gguf")
    return sorted(found)


def digests(path: Path) -> Iterator[str]:
    """Of one model, on the instruction set that the environment chooses."""
    model = motet.Model.load(path, threads=2)
    if isinstance(model.family, Encodes):
        for ubatch in (_UBATCH, 512):
            context = model.context(max_sequences=2, ubatch=ubatch, pooling="none")
            yield f"encoded by {ubatch}: {encoders_digest(model, context)}"
        return
    for kv_type in KV_TYPES:
        for split in SPLITS:
            for name, setting in EXTENDED.items():
                try:
                    context = model.context(
                        max_sequences=4,
                        max_tokens=4096,
                        ubatch=_UBATCH,
                        split=split,
                        kv_type=kv_type,
                        self_extend=setting,
                    )
                except motet.MotetError as error:
                    yield f"{kv_type} {split} {name}: {type(error).__name__}"
                    continue
                yield f"{kv_type} {split} {name}: {digest(model, context)}"


def digest(model: motet.Model, context: motet.Context) -> str:
    """Of everything that some sequences' tokens give."""
    rng = np.random.default_rng(7)
    most = min(_MOST, context.memory.context_length - 8)
    seen = hashlib.sha256()

    def tokens(count: int) -> list[int]:
        return rng.integers(0, model.n_vocab, count).tolist()

    def decode(batch: motet.Batch) -> None:
        seen.update(context.decode(batch).logits.tobytes())

    batch = motet.Batch()
    shared = most // 4
    batch.extend(tokens(shared), 0, seqs=(0, 1), logits="all")
    batch.extend(tokens(most // 2 - shared), shared, seqs=0, logits="all")
    batch.extend(tokens(7), 0, seqs=2, logits="last")
    batch.extend(tokens(most - most // 2), most // 2, seqs=0, logits="all")
    decode(batch)
    context.memory.copy(0, 3)
    ends = [most, shared, 7, most]
    for _ in range(3):
        batch = motet.Batch()
        for seq, end in enumerate(ends):
            batch.add(tokens(1)[0], end, seqs=seq, logits=True)
        decode(batch)
        ends = [end + 1 for end in ends]
    back = context.memory.reachable(0, ends[0] - 2)
    context.memory.remove(0, back)
    batch = motet.Batch()
    batch.extend(tokens(3), back, seqs=0, logits="all")
    batch.extend(tokens(2), ends[3], seqs=3, logits="all")
    decode(batch)
    return seen.hexdigest()[:24]


def encoders_digest(model: motet.Model, context: motet.Context) -> str:
    """Of the states that two texts are encoded to, and of what a decoder then gives for each."""
    rng = np.random.default_rng(7)
    seen = hashlib.sha256()
    batch = motet.Batch()
    for seq, length in enumerate((min(100, model.config.context_length), 7)):
        batch.extend(rng.integers(0, model.n_vocab, length).tolist(), 0, seqs=seq, logits="all")
    states = context.encode(batch).hidden
    assert states is not None
    seen.update(states.tobytes())
    if isinstance(model.family, EncodesForDecoding):
        batch = motet.Batch()
        for seq in (0, 1):
            batch.extend(rng.integers(0, model.n_vocab, 20).tolist(), 0, seqs=seq, logits="all")
        seen.update(context.decode(batch).logits.tobytes())
    return seen.hexdigest()[:24]


def every(shared: Path | None) -> Iterator[str]:
    """All lines; a process for each instruction set, which is chosen when the package loads."""
    for isa in _cpu.supported():
        command = [sys.executable, "-m", "benchmarks.digests", "--isa", isa]
        command += ["--shared", str(shared)] if shared else []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"MOTET_ISA": isa}
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                yield line.rstrip("\n")
        if child.returncode:
            raise SystemExit(child.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description="Digests of the logits of small models.")
    parser.add_argument("--shared", type=Path, help="folder of the shared models")
    parser.add_argument("--against", type=Path, help="lines of before; tells which differ")
    parser.add_argument("--isa", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.isa:
        for path in models(options.shared):
            for line in digests(path):
                print(f"{options.isa} {path.parent.name}/{path.name} {line}", flush=True)
        return
    if options.against is None:
        for line in every(options.shared):
            print(line, flush=True)
        return
    before, after = table(options.against.read_text().splitlines()), table(every(options.shared))
    different = [key for key, found in before.items() if after.get(key) != found]
    for key in different:
        print(f"{key}: {before[key]}, now {after.get(key, 'missing')}")
    new = len(after.keys() - before.keys())
    print(f"{len(before) - len(different)} of {len(before)} digests are the same, {new} are new")
    raise SystemExit(bool(different))


def table(lines: Iterable[str]) -> dict[str, str]:
    """What was run: its digest."""
    return dict(line.rsplit(": ", 1) for line in lines)


if __name__ == "__main__":
    main()
