"""What is compared between processors: digests of logits, and conversations that travel.

    python -m tests.arm.journey digests OUT            # of every golden and shipped model
    python -m tests.arm.journey digests --every 12 OUT # of one in so many
    python -m tests.arm.journey begin FOLDER           # conversations that are saved
    python -m tests.arm.journey go-on FOLDER           # each goes on, and is saved again

Run it on both kinds of processor: the files that it writes are to be the same, byte for byte.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

from benchmarks.digests import digest, encoders_digest
from motet import Batch, Context, Model
from motet.runnable import Encodes
from tests.shared import SHARED

ROOT = Path(__file__).parents[2]
TRAVELLERS = ("motet-tiny", "motet-tiny-mamba", "motet-tiny-jamba")
_STEPS = 8


def models() -> list[Path]:
    found = [*ROOT.glob("tests/parity/goldens/*.gguf"), *ROOT.glob("src/motet/data/*.gguf")]
    return sorted([*found, *SHARED.glob("stories260K/*.gguf")])


def write_digests(out: Path, every: int) -> None:
    """A line for each model, or one in ``every``, and kind of cache."""
    with out.open("w") as file:
        for path in models()[::every]:
            model = Model.load(path, threads=1)
            if isinstance(model.family, Encodes):
                context = model.context(max_sequences=2, ubatch=24, pooling="none")
                print(path.stem, encoders_digest(model, context), file=file, flush=True)
                continue
            for kv_type in ("f16", "q8_0"):
                context = model.context(
                    max_sequences=4, max_tokens=2048, ubatch=24, kv_type=kv_type
                )
                print(path.stem, kv_type, digest(model, context), file=file, flush=True)


def begin(folder: Path) -> None:
    """A prompt for each traveller, saved."""
    for name in TRAVELLERS:
        model, context = _context(name)
        tokens = np.random.default_rng(3).integers(0, model.n_vocab, 90).tolist()
        batch = Batch()
        batch.extend(tokens, 0, logits="last")
        _write(folder, name, context, context.decode(batch).logits)


def go_on(folder: Path) -> None:
    """From the saved state, some greedy tokens more; saved again."""
    for name in TRAVELLERS:
        _, context = _context(name)
        context.restore(folder / f"{name}.state")
        logits = np.load(folder / f"{name}.npy")
        for _ in range(_STEPS):
            batch = Batch()
            batch.add(int(logits[-1].argmax()), context.memory.length(0), logits=True)
            logits = context.decode(batch).logits
        _write(folder, name, context, logits)


def _context(name: str) -> tuple[Model, Context]:
    model = Model.load(ROOT / "src/motet/data" / f"{name}.gguf", threads=1)
    return model, model.context(max_sequences=1, max_tokens=256)


def _write(folder: Path, name: str, context: Context, logits: "np.ndarray") -> None:
    context.save(folder / f"{name}.state")
    np.save(folder / f"{name}.npy", logits)
    print(name, hashlib.sha256(logits.tobytes()).hexdigest()[:24])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["digests", "begin", "go-on"])
    parser.add_argument("where", type=Path)
    parser.add_argument("--every", type=int, default=1, help="digests of one in so many models")
    arguments = parser.parse_args()
    if arguments.what == "digests":
        write_digests(arguments.where, arguments.every)
    elif arguments.what == "begin":
        begin(arguments.where)
    else:
        go_on(arguments.where)


if __name__ == "__main__":
    main()
