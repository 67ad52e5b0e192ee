"""Decoders with Self-Extend in float64: the paper's formula, written down as it stands.

Jin et al. 2024 (arXiv 2401.01325), eq. 3 and 4: a matrix of relative positions a layer, each score
from the relative position of its pair, one softmax. Of Motet only the reader of files is used. No
cache, no chunks, no care for speed or memory.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motet.weights.formats import dequantize
from motet.weights.gguf import GGUFFile

DEFAULTS = {
    "rope.freq_base": 10000.0,
    "rope.freq_base_swa": 10000.0,
    "attn_logit_softcapping": 0.0,
    "final_logit_softcapping": 0.0,
    "attention.sliding_window": 0,
}
PERIODS = {"gemma2": 2, "gemma3": 6}
"""Every how many layers one sees everything."""


@dataclass(frozen=True)
class Extension:
    """``groups``: of the query at each position, from 1 (plain). ``trained``: for the log scale."""

    window: int
    groups: np.ndarray
    log_of: int = 0
    """Trained length of the log scale; 0 for none."""

    def relative(self) -> np.ndarray:
        """int64 ``[T, T]``, row by row of the paper's figure 3; 0 for what a query does not see."""
        count, w = len(self.groups), self.window
        out = np.zeros((count, count), np.int64)
        for q in range(count):
            group = int(self.groups[q])
            for k in range(q + 1):
                near = q - k < w
                out[q, k] = q - k if near else q // group + w - w // group - k // group
        return out

    def factors(self) -> np.ndarray:
        """``[T]``: the log scale of each query."""
        if not self.log_of:
            return np.ones(len(self.groups))
        at = range(len(self.groups))
        return np.array([max(1.0, math.log(p + 1) / math.log(self.log_of)) for p in at])


class Decoder:
    """llama, qwen2, gemma, gemma2, gemma3, mpt or starcoder2, from a GGUF file."""

    def __init__(self, path: Path) -> None:
        with GGUFFile.open(path) as file:
            self.kind = file.architecture
            self.keys: dict[str, Any] = {
                name.removeprefix(f"{self.kind}."): value for name, value in file.metadata.items()
            }
            self.weights = {
                name: dequantize(file.raw(name), info.type).astype(np.float64).reshape(info.shape)
                for name, info in file.tensors.items()
            }
        self.heads = self.keys["attention.head_count"]
        self.centred = "attention.layer_norm_epsilon" in self.keys
        rms = "" if self.centred else "rms_"
        self.eps = self.keys[f"attention.layer_norm_{rms}epsilon"]
        self.gemma = self.kind.startswith("gemma")
        self.window = self.key("attention.sliding_window")

    def key(self, name: str) -> float:
        return self.keys.get(name, DEFAULTS[name])

    def logits(self, tokens: np.ndarray, extension: Extension | None = None) -> np.ndarray:
        """float64 ``[T, n_vocab]``."""
        x = self.weights["token_embd.weight"][tokens]
        if self.gemma:
            x = x * math.sqrt(x.shape[1])
        twice = self.kind in PERIODS
        for i in range(self.keys["block_count"]):
            block = {
                name.removeprefix(f"blk.{i}."): value
                for name, value in self.weights.items()
                if name.startswith(f"blk.{i}.")
            }
            h = self.attention(block, i, self.norm(x, block, "attn_norm"), extension)
            x = x + (self.norm(h, block, "post_attention_norm") if twice else h)
            h = self.feed_forward(block, self.norm(x, block, "ffn_norm"))
            x = x + (self.norm(h, block, "post_ffw_norm") if twice else h)
        x = self.norm(x, self.weights, "output_norm")
        head = "output" if "output.weight" in self.weights else "token_embd"
        return capped(linear(x, self.weights, head), self.key("final_logit_softcapping"))

    def feed_forward(self, block: Mapping[str, np.ndarray], h: np.ndarray) -> np.ndarray:
        up = linear(h, block, "ffn_up")
        if self.kind == "mpt":
            up = 0.5 * up * (1 + np.vectorize(math.erf)(up / math.sqrt(2)))
        elif self.kind == "starcoder2":
            up = gelu(up)
        else:
            gate = linear(h, block, "ffn_gate")
            up *= gelu(gate) if self.gemma else silu(gate)
        return linear(up, block, "ffn_down")

    def attention(
        self, block: Mapping[str, np.ndarray], layer: int, h: np.ndarray, ext: Extension | None
    ) -> np.ndarray:
        count = len(h)
        kv_heads = self.keys.get("attention.head_count_kv", self.heads)
        if "attn_qkv.weight" in block:
            limit = self.keys.get("attention.clamp_kqv", np.inf)
            q, k, v = np.split(np.clip(linear(h, block, "attn_qkv"), -limit, limit), 3, axis=1)
        else:
            q, k, v = (linear(h, block, f"attn_{name}") for name in "qkv")
        q = q.reshape(count, self.heads, -1)
        k, v = k.reshape(count, kv_heads, -1), v.reshape(count, kv_heads, -1)
        if "attn_q_norm.weight" in block:
            q, k = (self.norm(z, block, f"attn_{n}_norm") for z, n in ((q, "q"), (k, "k")))
        slides = bool(self.window) and (layer + 1) % PERIODS.get(self.kind, layer + 2) != 0
        distance = np.arange(count)[:, None] - np.arange(count)
        seen = distance >= 0
        relative, factors = distance * seen, np.ones(count)
        if slides:
            seen &= distance < self.window
        elif ext is not None:
            relative, factors = ext.relative(), ext.factors()
        frequencies, magnitude = self.rotation(slides, q.shape[2])
        mixed = np.empty((count, self.heads, v.shape[2]))
        for head in range(self.heads):
            kv = head // (self.heads // kv_heads)
            scores = turned(
                q[:, head], k[:, kv], relative, frequencies, magnitude, self.kind == "llama"
            )
            scores *= factors[:, None] / math.sqrt(q.shape[2])
            if self.kind == "mpt":
                scores -= self.slope(head) * relative
            scores = capped(scores, self.key("attn_logit_softcapping"))
            weights = np.exp(scores - np.max(scores, axis=1, where=seen, initial=-1e9)[:, None])
            weights *= seen
            mixed[:, head] = weights / weights.sum(axis=1, keepdims=True) @ v[:, kv]
        return linear(mixed.reshape(count, -1), block, "attn_output")

    def rotation(self, slides: bool, head_dim: int) -> tuple[np.ndarray, float]:
        """Radians a position of each pair of channels, and what YaRN multiplies q and k by."""
        rotary = 0 if self.kind == "mpt" else self.keys.get("rope.dimension_count", head_dim)
        local = slides and self.kind == "gemma3"
        base = self.key("rope.freq_base_swa" if local else "rope.freq_base")
        steps = np.arange(rotary // 2) * 2 / rotary
        frequencies, factor = base**-steps, self.keys.get("rope.scaling.factor", 1.0)
        if "rope_freqs.weight" in self.weights:
            frequencies = frequencies / self.weights["rope_freqs.weight"]
        if local or factor == 1:
            return frequencies, 1.0
        if self.keys["rope.scaling.type"] == "linear":
            return frequencies / factor, 1.0
        # YaRN: Peng et al. 2023, arXiv 2309.00071, eq. 17 to 22.
        original = self.keys["rope.scaling.original_context_length"]
        ends = [
            rotary * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))
            for turns in (32, 1)
        ]
        low, high = max(math.floor(ends[0]), 0), min(math.ceil(ends[1]), rotary - 1)
        stretched = np.clip((np.arange(rotary // 2) - low) / (high - low), 0, 1)
        scaled = frequencies * (1 - stretched) + frequencies / factor * stretched
        return scaled, 0.1 * math.log(factor) + 1

    def slope(self, head: int) -> float:
        """ALiBi's, for all heads of a power of 2, then between these (Press et al. 2021, §3)."""
        most, below = self.keys["attention.max_alibi_bias"], 1 << (self.heads.bit_length() - 1)
        return 2 ** (-most * (head + 1 if head < below else head - below + 0.5) / below)

    def norm(self, x: np.ndarray, weights: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        if self.centred:
            x = x - np.mean(x, axis=-1, keepdims=True)
        x = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + self.eps)
        return x * weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0.0)


def turned(
    q: np.ndarray,
    k: np.ndarray,
    relative: np.ndarray,
    frequencies: np.ndarray,
    magnitude: float,
    interleaved: bool,
) -> np.ndarray:
    """q · k, where each pair of channels is turned by the pair's relative position.

    As complex numbers: the real part of q · conj(k) · exp(i · relative · frequency).
    """
    rotary = 2 * len(frequencies)
    if interleaved:
        first, second = slice(0, rotary, 2), slice(1, rotary, 2)
    else:
        first, second = slice(0, rotary // 2), slice(rotary // 2, rotary)
    out = q[:, rotary:] @ k[:, rotary:].T
    qc, kc = (z[:, first] + 1j * z[:, second] for z in (q, k))
    for i, frequency in enumerate(frequencies):
        turns = np.exp(1j * frequency * np.arange(relative.max() + 1))[relative]
        out += magnitude**2 * (np.outer(qc[:, i], kc[:, i].conj()) * turns).real
    return out


def linear(x: np.ndarray, weights: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def capped(x: np.ndarray, cap: float) -> np.ndarray:
    return cap * np.tanh(x / cap) if cap else x


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
