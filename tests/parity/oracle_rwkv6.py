"""RWKV-6 in NumPy, float64, token by token, after the paper and the authors' own code.

Peng et al. 2024 (arXiv 2404.05892), §4; https://github.com/BlinkDL/RWKV-LM, RWKV-v6. Weights have
the authors' names and layouts, and ``write_gguf`` makes llama.cpp's of them.
"""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sizes:
    """``rescale_every``: halve the residual after so many layers. ``fused``: all lerps in one."""

    n_layers: int = 3
    d: int = 24
    head: int = 8
    ff: int = 40
    mix_rank: int = 3
    decay_rank: int = 5
    n_vocab: int = 48
    eps: float = 1e-3
    rescale_every: int = 0
    fused: bool = True


CASES = {
    "rwkv6": Sizes(),
    "rwkv6_rescaled": Sizes(n_layers=5, d=20, head=5, rescale_every=2, fused=False),
}


def random_weights(sizes: Sizes, seed: int) -> Weights:
    """So that states last for some tens of tokens, and logits deviate by about 4."""
    rng = np.random.default_rng(seed)
    d, heads = sizes.d, sizes.d // sizes.head

    def matrix(rows: int, columns: int) -> np.ndarray:
        return rng.standard_normal((rows, columns)) / columns**0.5

    weights = {"emb": rng.standard_normal((sizes.n_vocab, d)), "head": 4 * matrix(sizes.n_vocab, d)}
    norms = ["ln0", "ln_out"]
    for layer in range(sizes.n_layers):
        at = f"{layer}."
        norms += [at + "ln1", at + "ln2", at + "att.ln_x"]
        weights |= {at + f"att.maa_{name}": rng.uniform(0, 1, d) for name in "xwkvrg"}
        weights |= {at + f"ffn.maa_{name}": rng.uniform(0, 1, d) for name in "kr"}
        weights |= {at + f"att.{name}": matrix(d, d) for name in "rkvgo"}
        weights |= {
            at + "att.maa_w1": 0.5 * rng.standard_normal((d, 5 * sizes.mix_rank)) / d**0.5,
            at + "att.maa_w2": 0.5 * rng.standard_normal((5, sizes.mix_rank, d)),
            at + "att.decay": rng.uniform(-4, 0.5, d),
            at + "att.decay_w1": rng.standard_normal((d, sizes.decay_rank)) / d**0.5,
            at + "att.decay_w2": 0.5 * rng.standard_normal((sizes.decay_rank, d)),
            at + "att.faaaa": rng.standard_normal((heads, sizes.head)),
            at + "ffn.k": matrix(sizes.ff, d),
            at + "ffn.v": matrix(d, sizes.ff),
            at + "ffn.r": matrix(d, d),
        }
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
        for layer in range(sizes.n_layers):
            at = f"{layer}."
            scale = 2.0 ** -(layer // sizes.rescale_every) if sizes.rescale_every else 1.0
            h = _norm(weights, at + "ln1", x, sizes.eps)
            x = x + scale * _time_mix(weights, at, sizes, h, before[layer, 0], states[layer])
            before[layer, 0] = h
            h = _norm(weights, at + "ln2", x, sizes.eps)
            x = x + scale * _channel_mix(weights, at, h, before[layer, 1])
            before[layer, 1] = h
            if sizes.rescale_every and (layer + 1) % sizes.rescale_every == 0:
                x = x / 2
        out.append(weights["head"] @ _norm(weights, "ln_out", x, sizes.eps))
    return np.array(out)


def _time_mix(
    weights: Weights, at: str, sizes: Sizes, h: np.ndarray, before: np.ndarray, state: np.ndarray
) -> np.ndarray:
    """``state`` ``[heads, key channel, value channel]`` goes on by one token, in place."""
    w = {name: weights[f"{at}att.{name}"] for name in ("decay", "decay_w1", "decay_w2", "faaaa")}
    dx = before - h
    low = np.tanh((h + dx * weights[at + "att.maa_x"]) @ weights[at + "att.maa_w1"]).reshape(5, -1)
    mixed = {}
    for index, name in enumerate("wkvrg"):
        share = weights[f"{at}att.maa_{name}"] + low[index] @ weights[at + "att.maa_w2"][index]
        mixed[name] = h + dx * share
    r, k, v = ((weights[f"{at}att.{name}"] @ mixed[name]).reshape(-1, sizes.head) for name in "rkv")
    decay = w["decay"] + np.tanh(mixed["w"] @ w["decay_w1"]) @ w["decay_w2"]
    decay = np.exp(-np.exp(decay)).reshape(-1, sizes.head)
    y = np.empty_like(r)
    for head in range(len(r)):
        new = np.outer(k[head], v[head])
        y[head] = r[head] @ (state[head] + w["faaaa"][head][:, None] * new)
        state[head] = decay[head][:, None] * state[head] + new
    y = (y - y.mean(axis=1, keepdims=True)) / np.sqrt(y.var(axis=1, keepdims=True) + 64e-5)
    y = y.reshape(-1) * weights[at + "att.ln_x.weight"] + weights[at + "att.ln_x.bias"]
    g = weights[at + "att.g"] @ mixed["g"]
    return weights[at + "att.o"] @ (y * g / (1 + np.exp(-g)))


def _channel_mix(weights: Weights, at: str, h: np.ndarray, before: np.ndarray) -> np.ndarray:
    k = weights[at + "ffn.k"] @ (h + (before - h) * weights[at + "ffn.maa_k"])
    r = weights[at + "ffn.r"] @ (h + (before - h) * weights[at + "ffn.maa_r"])
    return (weights[at + "ffn.v"] @ np.square(np.maximum(k, 0))) / (1 + np.exp(-r))


def _norm(weights: Weights, name: str, x: np.ndarray, eps: float) -> np.ndarray:
    x = (x - x.mean()) / np.sqrt(x.var() + eps)
    return x * weights[name + ".weight"] + weights[name + ".bias"]


def write_gguf(weights: Weights, sizes: Sizes, path: Path) -> None:
    """The model as F32 GGUF, as llama.cpp's converter writes it, without vocabulary."""
    writer = gguf.GGUFWriter(path, "rwkv6")
    writer.add_tokenizer_model("no_vocab")
    writer.add_context_length(1048576)
    writer.add_embedding_length(sizes.d)
    writer.add_block_count(sizes.n_layers)
    writer.add_layer_norm_eps(sizes.eps)
    writer.add_rescale_every_n_layers(sizes.rescale_every)
    writer.add_wkv_head_size(sizes.head)
    writer.add_time_mix_extra_dim(sizes.mix_rank)
    writer.add_time_decay_extra_dim(sizes.decay_rank)
    writer.add_feed_forward_length(sizes.ff)
    writer.add_head_count(0)
    for name, tensor in _tensors(weights, sizes).items():
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
    "att.maa_w1": "time_mix_w1.weight",
    "att.maa_w2": "time_mix_w2.weight",
    "att.decay": "time_mix_decay.weight",
    "att.decay_w1": "time_mix_decay_w1.weight",
    "att.decay_w2": "time_mix_decay_w2.weight",
    "att.faaaa": "time_mix_first.weight",
    "att.r": "time_mix_receptance.weight",
    "att.k": "time_mix_key.weight",
    "att.v": "time_mix_value.weight",
    "att.g": "time_mix_gate.weight",
    "att.o": "time_mix_output.weight",
    "ffn.k": "channel_mix_key.weight",
    "ffn.v": "channel_mix_value.weight",
    "ffn.r": "channel_mix_receptance.weight",
    "ffn.maa_k": "channel_mix_lerp_k.weight",
    "ffn.maa_r": "channel_mix_lerp_r.weight",
    **{f"att.maa_{name}": f"time_mix_lerp_{name}.weight" for name in "xwkvrg"},
}


def _tensors(weights: Weights, sizes: Sizes) -> Weights:
    out = {}
    for full, tensor in weights.items():
        layer, _, name = full.partition(".") if full[0].isdigit() else ("", "", full)
        end = next((e for e in (".weight", ".bias") if name.endswith(e)), "")
        if name in ("att.maa_w1", "att.decay_w1", "att.decay_w2"):
            tensor = tensor.T
        elif name == "att.maa_w2":
            tensor = tensor.transpose(0, 2, 1)
        elif name in ("att.o", "ffn.v") and sizes.rescale_every:
            tensor = tensor / 2 ** (int(layer) // sizes.rescale_every)
        out[(f"blk.{layer}." if layer else "") + _NAMES[name.removesuffix(end)] + end] = tensor
    for layer in range(sizes.n_layers if sizes.fused else 0):
        lerp = f"blk.{layer}.time_mix_lerp_"
        apart = [out.pop(f"{lerp}{name}.weight") for name in "wkvrg"]
        out[f"{lerp}fused.weight"] = np.stack(apart)[:, None, None]
    return out
