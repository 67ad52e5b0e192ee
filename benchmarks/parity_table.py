"""How far quantised models are from the exact logits of their weights, as a Markdown table.

`python benchmarks/parity_table.py FOLDER…`, where a folder has model-TYPE.gguf,
logits_TYPE_dequant_hf.npy, tokens.npy and meta.json with llama.cpp's own distances
(../shared/data/parity/llama_q and gemma2_q).
"""

import json
import sys
from pathlib import Path

import numpy as np

import motet


def distance(folder: Path, type: str) -> tuple[float, float]:
    """Mean and largest |Δ logit| of Motet for one type, with F32 keys and values."""
    tokens = np.load(folder / "tokens.npy")
    model = motet.Model.load(folder / f"model-{type}.gguf")
    batch = motet.Batch()
    batch.extend(tokens.tolist(), 0, logits="all")
    out = model.context(kv_type="f32", max_tokens=len(tokens)).decode(batch)
    apart = np.abs(out.logits - np.load(folder / f"logits_{type}_dequant_hf.npy"))
    return float(apart.mean()), float(apart.max())


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit((__doc__ or "").strip())
    print("| Model | Type | Motet, mean | llama.cpp, mean | ratio | Motet, max | llama.cpp, max |")
    print("|---|---|---|---|---|---|---|")
    for folder in map(Path, sys.argv[1:]):
        for type, meta in json.loads((folder / "meta.json").read_text())["quantised"].items():
            if not (folder / f"model-{type}.gguf").exists():
                continue
            mean, largest = distance(folder, type)
            theirs = meta["llamacpp_vs_dequant_f32"]
            print(
                f"| {folder.name} | {type} | {mean:.4f} | {theirs['mean_abs']:.4f} | "
                f"{mean / theirs['mean_abs']:.3f} | {largest:.3f} | {theirs['max_abs']:.3f} |"
            )


if __name__ == "__main__":
    main()
