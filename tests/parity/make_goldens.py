"""Make the committed goldens: `python -m tests.parity.make_goldens` (needs torch, transformers).

Each is a random model of a few kilobytes as GGUF, 72 tokens, and transformers' logits for them.
"""

from pathlib import Path

import numpy as np
import torch

from tests.parity.oracle import CASES, oracle_logits, random_model, write_gguf

FOLDER = Path(__file__).parent / "goldens"
SEED = 20


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name, make_config in CASES.items():
        model = random_model(make_config(), SEED)
        tokens = np.random.default_rng(SEED).integers(0, model.config.vocab_size, 72, np.int32)
        write_gguf(model, FOLDER / f"{name}.gguf")
        np.savez_compressed(
            FOLDER / f"{name}.npz", tokens=tokens, logits=oracle_logits(model, tokens)
        )
        print(name, *((FOLDER / f"{name}{end}").stat().st_size for end in (".gguf", ".npz")))


if __name__ == "__main__":
    main()
