"""RWKV-7 in NumPy, float64, token by token, after the paper and the authors' own code.

Peng et al. 2025 (arXiv 2503.14456), §4; https://github.com/BlinkDL/RWKV-LM, RWKV-v7. Weights have
the authors' names and layouts, and ``write_gguf`` makes llama.cpp's of them.
"""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

Weights = dict[str, np.ndarray]
MIXED = "rwkvag"


@dataclass(frozen=True)
class Sizes:
    """Ranks are those of decay, rate, value and gate."""

    n_layers: int = 3
    d: int = 128
    head: int = 64
    ff: int = 96
    ranks: tuple[int, int, int, int] = (6, 5, 4, 8)
    n_vocab: int = 48
    eps: float = 1e-3


CASES = {
    "rwkv7": Sizes(),  # heads as all published models have them
    "rwkv7_narrow": Sizes(n_layers=4, d=20, head=5, ff=40, ranks=(1, 2, 3, 4)),
}


def random_weights(sizes: Sizes, seed: int) -> Weights:
    """So that states last for some tens of tokens, and logits deviate by about 4."""
    rng = np.random.default_rng(seed)
    d, heads = sizes.d, sizes.d // sizes.head

    def matrix(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
        return scale * rng.standard_normal((rows, columns)) / columns**0.5

    weights = {"emb": rng.standard_normal((sizes.n_vocab, d)), "head": 4 * matrix(sizes.n_vocab, d)}
    norms = ["ln0", "ln_out"]
    for layer in range(sizes.n_layers):
        at = f"{layer}."
        norms += [at + "ln1", at + "ln2", at + "att.ln_x"]
        weights |= {f"{at}att.x_{name}": rng.uniform(0, 1, d) for name in MIXED}
        weights |= {f"{at}att.{name}": matrix(d, d) for name in "rkvo"}
        for name, rank in zip("wavg", sizes.ranks, strict=True):
            if name == "v" and not layer:
                continue
            weights[f"{at}att.{name}1"] = matrix(d, rank, d**-0.5 * rank**0.5)
            weights[f"{at}att.{name}2"] = matrix(rank, d, (d / rank) ** 0.5)
        weights |= {
            at + "att.w0": rng.uniform(-6, 0, d),
            at + "att.a0": rng.standard_normal(d),
            at + "att.k_k": rng.uniform(0.5, 1, d),
            at + "att.k_a": rng.uniform(0.5, 1.5, d),
            at + "att.r_k": 0.3 * rng.standard_normal((heads, sizes.head)),
            at + "ffn.x_k": rng.uniform(0, 1, d),
            at + "ffn.k": matrix(sizes.ff, d),
            at + "ffn.v": matrix(d, sizes.ff),
        }
        if layer:
            weights[at + "att.v0"] = rng.standard_normal(d)
    for name in norms:
        weights[name + ".weight"] = 1 + 0.3 * rng.standard_normal(d)
        weights[name + ".bias"] = 0.3 * rng.standard_normal(d)
    return {name: value.astype(np.float32).astype(np.float64) for name, value in weights.items()}


def logits(weights: Weights, sizes: Sizes, tokens: np.ndarray) -> np.ndarray:
    """Of every token, ``[T, n_vocab]``."""
    heads = sizes.d // sizes.head
    before = np.zeros((sizes.n_layers, 2, sizes.d))
    states = np.zeros((sizes.n_layers, heads, sizes.head, sizes.head))
    out = []
    for token in tokens:
        x = _norm(weights, "ln0", weights["emb"][token], sizes.eps)
        first = None
        for layer in range(sizes.n_layers):
            at = f"{layer}."
            h = _norm(weights, at + "ln1", x, sizes.eps)
            y, first = _time_mix(weights, at, sizes, h, before[layer, 0], states[layer], first)
            x, before[layer, 0] = x + y, h
            h = _norm(weights, at + "ln2", x, sizes.eps)
            k = weights[at + "ffn.k"] @ (h + (before[layer, 1] - h) * weights[at + "ffn.x_k"])
            x = x + weights[at + "ffn.v"] @ np.square(np.maximum(k, 0))
            before[layer, 1] = h
        out.append(weights["head"] @ _norm(weights, "ln_out", x, sizes.eps))
    return np.array(out)


def _time_mix(
    weights: Weights,
    at: str,
    sizes: Sizes,
    h: np.ndarray,
    before: np.ndarray,
    state: np.ndarray,
    first: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """``state`` ``[heads, value channel, key channel]`` goes on by one token, in place."""
    p = {name.removeprefix(f"{at}att."): w for name, w in weights.items() if name.startswith(at)}
    x = {name: h + (before - h) * p[f"x_{name}"] for name in MIXED}
    r, k, v = (p[name] @ x[name] for name in "rkv")
    w = np.exp(-np.exp(-0.5) * _sigmoid(p["w0"] + np.tanh(x["w"] @ p["w1"]) @ p["w2"]))
    a = _sigmoid(p["a0"] + x["a"] @ p["a1"] @ p["a2"])
    g = _sigmoid(x["g"] @ p["g1"]) @ p["g2"]
    if first is None:
        first = v
    else:
        v = v + (first - v) * _sigmoid(p["v0"] + x["v"] @ p["v1"] @ p["v2"])
    kappa = k * p["k_k"]
    k = k * (1 + (a - 1) * p["k_a"])
    r, w, k, value, a, kappa = (z.reshape(-1, sizes.head) for z in (r, w, k, v, a, kappa))
    kappa = kappa / np.linalg.norm(kappa, axis=1, keepdims=True)
    y = np.empty_like(r)
    for i in range(len(r)):
        transition = np.diag(w[i]) - np.outer(kappa[i], kappa[i] * a[i])
        state[i] = state[i] @ transition + np.outer(value[i], k[i])
        y[i] = state[i] @ r[i]
    y = (y - y.mean(axis=1, keepdims=True)) / np.sqrt(y.var(axis=1, keepdims=True) + 64e-5)
    y = y.reshape(-1) * p["ln_x.weight"] + p["ln_x.bias"]
    y += ((r * k * p["r_k"]).sum(axis=1, keepdims=True) * value).reshape(-1)
    return p["o"] @ (y * g), first


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _norm(weights: Weights, name: str, x: np.ndarray, eps: float) -> np.ndarray:
    x = (x - x.mean()) / np.sqrt(x.var() + eps)
    return x * weights[name + ".weight"] + weights[name + ".bias"]


def write_gguf(weights: Weights, sizes: Sizes, path: Path, *, repeated: bool = True) -> None:
    """The model as F32 GGUF, as llama.cpp's converter writes it, without vocabulary.

    ``repeated``: with the first layer's rate once more where other layers have what they take of
    its values, as llama.cpp wants it.
    """
    writer = gguf.GGUFWriter(path, "rwkv7")
    writer.add_tokenizer_model("no_vocab")
    writer.add_context_length(1048576)
    writer.add_embedding_length(sizes.d)
    writer.add_block_count(sizes.n_layers)
    writer.add_layer_norm_eps(sizes.eps)
    writer.add_wkv_head_size(sizes.head)
    decay, rate, value, gate = sizes.ranks
    writer.add_decay_lora_rank(decay)
    writer.add_iclr_lora_rank(rate)
    writer.add_value_residual_mix_lora_rank(value)
    writer.add_gate_lora_rank(gate)
    writer.add_feed_forward_length(sizes.ff)
    writer.add_head_count(0)
    writer.add_vocab_size(sizes.n_vocab)
    for name, tensor in tensors(weights, sizes, repeated=repeated).items():
        writer.add_tensor(name, np.ascontiguousarray(tensor, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_NAMES = {
    "emb": "token_embd.weight",
    "head": "output.weight",
    "ln0": "token_embd_norm",
    "ln_out": "output_norm",
    "ln1": "attn_norm",
    "ln2": "attn_norm_2",
    "att.ln_x": "time_mix_ln",
    "att.r": "time_mix_receptance.weight",
    "att.k": "time_mix_key.weight",
    "att.v": "time_mix_value.weight",
    "att.o": "time_mix_output.weight",
    "ffn.k": "channel_mix_key.weight",
    "ffn.v": "channel_mix_value.weight",
    "ffn.x_k": "channel_mix_lerp_k.weight",
    **{f"att.{name}": f"time_mix_{name}.weight" for name in ("k_k", "k_a", "r_k")},
    **{f"att.{name}{i}": f"time_mix_{name}{i}.weight" for name in "wavg" for i in range(3)},
}


def tensors(weights: Weights, sizes: Sizes, *, repeated: bool = True) -> Weights:
    """By GGUF's names."""
    out = {}
    for full, tensor in weights.items():
        layer, _, name = full.partition(".") if full[0].isdigit() else ("", "", full)
        if name.startswith("att.x_"):
            continue
        end = next((e for e in (".weight", ".bias") if name.endswith(e)), "")
        if name[-1] in "12" and name.startswith("att."):
            tensor = tensor.T
        elif name == "att.r_k":
            tensor = tensor.reshape(-1)
        out[(f"blk.{layer}." if layer else "") + _NAMES[name.removesuffix(end)] + end] = tensor
    for layer in range(sizes.n_layers):
        apart = [weights[f"{layer}.att.x_{name}"] for name in MIXED]
        out[f"blk.{layer}.time_mix_lerp_fused.weight"] = np.stack(apart)[:, None, None]
    for i in range(3 if repeated else 0):
        out[f"blk.0.time_mix_v{i}.weight"] = out[f"blk.0.time_mix_a{i}.weight"]
    return out
