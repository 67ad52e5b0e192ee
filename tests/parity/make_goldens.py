"""Make the committed goldens: `python -m tests.parity.make_goldens [NAME …]`, by default all.

Needs torch and transformers, whose other versions may round otherwise: make those that are new.
Each is a random model of a few kilobytes as GGUF, 72 tokens, and transformers' logits for them;
those of RWKV-6, which transformers does not have, come from ``oracle_rwkv6``.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tests.parity import oracle_rwkv6
from tests.parity.oracle import CASES, oracle_logits, random_model, write_gguf

FOLDER = Path(__file__).parent / "goldens"
SEED = 20


def main(names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name in names or CASES:
        model = random_model(CASES[name](), SEED)
        tokens = np.random.default_rng(SEED).integers(0, model.config.vocab_size, 72, np.int32)
        write_gguf(model, FOLDER / f"{name}.gguf")
        np.savez_compressed(
            FOLDER / f"{name}.npz", tokens=tokens, logits=oracle_logits(model, tokens)
        )
        print(name, *((FOLDER / f"{name}{end}").stat().st_size for end in (".gguf", ".npz")))
    if not names:
        make_rwkv6()
        make_encoders()


def make_encoders() -> None:
    """Those of encoders alone: states in float64."""
    from tests.parity.test_live_encoders import ARCHITECTURES, random_model, write_gguf

    folder = FOLDER / "encoders"
    folder.mkdir(exist_ok=True)
    for name in ARCHITECTURES:
        model, tokens, states = random_model(name, SEED)
        write_gguf(model, name, folder / f"{name}.gguf")
        np.savez_compressed(folder / f"{name}.npz", tokens=tokens, states=states)


def make_rwkv6() -> None:
    """The goldens of RWKV-6 alone."""
    for name, sizes in oracle_rwkv6.CASES.items():
        weights = oracle_rwkv6.random_weights(sizes, SEED)
        tokens = np.random.default_rng(SEED).integers(0, sizes.n_vocab, 72, np.int32)
        oracle_rwkv6.write_gguf(weights, sizes, FOLDER / f"{name}.gguf")
        logits = oracle_rwkv6.logits(weights, sizes, tokens).astype(np.float32)
        np.savez_compressed(FOLDER / f"{name}.npz", tokens=tokens, logits=logits)


if __name__ == "__main__":
    main(sys.argv[1:])
