"""Loading a Hugging Face directory of BF16 weights: as it is, and quantised on the way.

    python -m benchmarks.loading DIR [--make] [--type q8_0 …] [--turns 3] [--warm]

``--make`` writes DIR first, with the shape of Gemma-2-2B and random weights. Each measurement is a
process of its own; in each turn all are made, after the files have been dropped from the page
cache, or with ``--warm`` read into it. "read" reads every byte and does nothing with it.
"""

import json
import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import click
import numpy as np

LAYERS, WIDTH, FEED_FORWARD, HEADS, KV_HEADS, HEAD, VOCABULARY = 26, 2304, 9216, 8, 4, 256, 256000
CONFIG = {
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "head_dim": HEAD,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": WIDTH,
    "intermediate_size": FEED_FORWARD,
    "max_position_embeddings": 8192,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": KV_HEADS,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
    "vocab_size": VOCABULARY,
}
_PIECE = 2 << 20


def shapes() -> dict[str, tuple[int, ...]]:
    """The checkpoint's tensors."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        for norm in (
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ):
            found[f"{block}{norm}.weight"] = (WIDTH,)
        found[f"{block}self_attn.q_proj.weight"] = (HEADS * HEAD, WIDTH)
        found[f"{block}self_attn.k_proj.weight"] = (KV_HEADS * HEAD, WIDTH)
        found[f"{block}self_attn.v_proj.weight"] = (KV_HEADS * HEAD, WIDTH)
        found[f"{block}self_attn.o_proj.weight"] = (WIDTH, HEADS * HEAD)
        found[f"{block}mlp.gate_proj.weight"] = (FEED_FORWARD, WIDTH)
        found[f"{block}mlp.up_proj.weight"] = (FEED_FORWARD, WIDTH)
        found[f"{block}mlp.down_proj.weight"] = (WIDTH, FEED_FORWARD)
    found["model.norm.weight"] = (WIDTH,)
    return found


def make(folder: Path) -> None:
    """Write the directory, tensor by tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1))
    header, at = {}, 0
    for name, shape in shapes().items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes().values():
            left, scale = int(np.prod(shape)), np.float32(shape[-1] ** -0.5)
            while left:
                count = min(left, 1 << 22)
                values = rng.standard_normal(count, np.float32) * scale
                file.write((values.view(np.uint32) >> 16).astype("<u2").tobytes())
                left -= count


def measure(folder: Path, what: str) -> dict[str, float]:
    """Seconds and megabytes of one way of reading; in a process of its own."""
    start, packed = time.perf_counter(), 0.0
    if what == "read":
        buffer = bytearray(_PIECE)
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
    else:
        import motet

        start = time.perf_counter()
        model = motet.Model.load(folder, type=None if what == "as it is" else what)
        packed = model.nbytes / 1e6
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"seconds": seconds, "packed": packed, "peak": peak}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--make", "makes", is_flag=True)
@click.option("--type", "types", multiple=True, default=("q8_0",))
@click.option("--turns", default=3)
@click.option("--warm", is_flag=True)
@click.option("--one", hidden=True)
def main(
    folder: Path, makes: bool, types: tuple[str, ...], turns: int, warm: bool, one: str | None
) -> None:
    """See above."""
    if one is not None:
        print(json.dumps(measure(folder, one)))
        return
    if makes:
        make(folder)
    names = ["read", "as it is", *types]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(turns):
        for name in names:
            for path in folder.glob("*.safetensors"):
                with path.open("rb") as file:
                    if not warm:
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    else:
                        while file.read(_PIECE):
                            pass
            command = [sys.executable, "-m", "benchmarks.loading", str(folder), "--one", name]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results[name].append(json.loads(output))
    print("| | seconds | ÷ read | packed MB | peak MB | peak ÷ packed |\n|---|---|---|---|---|---|")
    read = median(each["seconds"] for each in results["read"])
    for name, found in results.items():
        times = [each["seconds"] for each in found]
        packed, peak = found[0]["packed"], max(each["peak"] for each in found)
        share = f"{peak / packed:.2f}" if packed else ""
        print(
            f"| {name} | {median(times):.2f} ({min(times):.2f} to {max(times):.2f}) |"
            f" {median(times) / read:.2f} | {packed:.0f} | {peak:.0f} | {share} |"
        )


if __name__ == "__main__":
    main()
