"""How far from the exact results golden models are, as Markdown tables.

    PYTHONPATH=src python -m benchmarks.parity_table [FOLDER …]

A folder (by default each of ../shared/data/parity) has model.gguf, hf/ where there is a directory
of the same model, tokens.npy, and what is exact: logits_hf.npy, or embeddings_hf.npy of
models that embed; meta.json says how far llama.cpp is. Folders with model-TYPE.gguf and
logits_TYPE_dequant_hf.npy have a table of their own: how far quantised models are from the exact
logits of their weights.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import motet
from motet.conversion.loading import prepared
from motet.errors import UnsupportedError
from motet.kernels import CPU
from motet.opening import open_model

PARITY = Path(__file__).parents[2] / "shared" / "data" / "parity"
HEADER = (
    "| Golden model | Architecture | Shape | Exact is | mean | largest | of the directory |"
    " llama.cpp, mean | largest |"
)


def loaded(path: Path) -> motet.Model:
    """A model without its vocabulary, matrices as float32, which is exact for those of BF16."""
    kernels = CPU()
    with open_model(path) as file:
        file.metadata = {**file.metadata, "tokenizer.ggml.model": "no_vocab"}
        return motet.Model(prepared(file, "f32", (), kernels), kernels)


def differences(folder: Path, model: motet.Model) -> tuple[float, float]:
    """Mean and largest difference of what is exact, with float32 keys and values."""
    batch, source = motet.Batch(), motet.Batch()
    if (folder / "tokens_encoder.npy").exists():
        source.extend(np.load(folder / "tokens_encoder.npy").tolist(), 0)
        batch.extend(np.load(folder / "tokens_decoder.npy").tolist(), 0, logits="all")
    else:
        batch.extend(np.load(folder / "tokens.npy").tolist(), 0, logits="all")
    context = model.context(kv_type="f32", pooling="none")
    if len(source):
        context.encode(source)
    encodes = hasattr(model.family, "encode") and not len(source)
    output = (context.encode if encodes else context.decode)(batch)
    wanted = folder / "logits_hf.npy"
    if wanted.exists():
        assert output.logits is not None
        apart = np.abs(output.logits - np.load(wanted))
    else:
        assert output.hidden is not None
        apart = np.abs(output.hidden - np.load(folder / "embeddings_hf.npy"))
    return float(apart.mean()), float(apart.max())


def shape(model: motet.Model) -> str:
    """Layers, channels, heads and experts, in short."""
    config: Any = model.config
    parts = [f"{config.n_layers} × {config.d_model}"]
    heads, kv_heads = getattr(config, "n_heads", 0), getattr(config, "n_kv_heads", 0)
    if isinstance(heads, int) and heads:
        parts.append(f"{heads} heads" + (f", {kv_heads} for keys" if kv_heads else ""))
    if config.n_experts:
        parts.append(f"{config.n_experts_used} of {config.n_experts} experts")
    return ", ".join(parts)


def rows(folders: list[Path]) -> Iterator[str]:
    """Of each golden model."""
    for folder in folders:
        if not (folder / "model.gguf").exists() or not list(folder.glob("*_hf.npy")):
            continue
        meta = json.loads((folder / "meta.json").read_text())
        try:
            model = loaded(folder / "model.gguf")
        except UnsupportedError as error:
            print(f"{folder.name}: {error.message}", file=sys.stderr)
            continue
        mean, largest = differences(folder, model)
        what = "logits" if (folder / "logits_hf.npy").exists() else "states"
        yield (
            f"| {folder.name} | `{model.config.architecture}` | {shape(model)} | {what} |"
            f" {mean:.1e} | {largest:.1e} | {_of_directory(folder, mean, largest)} |"
            f" {_theirs(meta, 'mean_abs')} | {_theirs(meta, 'max_abs')} |"
        )


def _of_directory(folder: Path, mean: float, largest: float) -> str:
    if not (folder / "hf").is_dir():
        return ""
    try:
        found = differences(folder, loaded(folder / "hf"))
    except UnsupportedError as error:
        print(f"{folder.name}/hf: {error.message}", file=sys.stderr)
        return "not read"
    return "the same" if found == (mean, largest) else f"{found[0]:.1e}, {found[1]:.1e}"


def _theirs(meta: dict[str, Any], name: str) -> str:
    found = meta.get("hf_vs_llamacpp", {}).get(name)
    return "" if found is None else f"{found:.1e}"


def quantised(folders: list[Path]) -> Iterator[str]:
    """Of each type of quantised models."""
    for folder in folders:
        meta = json.loads((folder / "meta.json").read_text()).get("quantised", {})
        for type, about in meta.items():
            if not (folder / f"model-{type}.gguf").exists():
                continue
            tokens = np.load(folder / "tokens.npy")
            model = motet.Model.load(folder / f"model-{type}.gguf")
            batch = motet.Batch()
            batch.extend(tokens.tolist(), 0, logits="all")
            out = model.context(kv_type="f32", max_tokens=len(tokens)).decode(batch)
            apart = np.abs(out.logits - np.load(folder / f"logits_{type}_dequant_hf.npy"))
            theirs = about["llamacpp_vs_dequant_f32"]
            yield (
                f"| {folder.name} | {type} | {apart.mean():.4f} | {theirs['mean_abs']:.4f} | "
                f"{apart.mean() / theirs['mean_abs']:.3f} | {apart.max():.3f} | "
                f"{theirs['max_abs']:.3f} |"
            )


def main() -> None:
    folders = [Path(name) for name in sys.argv[1:]]
    folders = folders or sorted(path.parent for path in PARITY.glob("*/meta.json"))
    if not folders:
        sys.exit((__doc__ or "").strip())
    print(HEADER, "|---|---|---|---|--:|--:|---|--:|--:|", sep="\n")
    for row in rows(folders):
        print(row, flush=True)
    print(
        "\n| Model | Type | Motet, mean | llama.cpp, mean | ratio | Motet, max | llama.cpp, max |"
    )
    print("|---|---|--:|--:|--:|--:|--:|")
    for row in quantised(folders):
        print(row, flush=True)


if __name__ == "__main__":
    main()
