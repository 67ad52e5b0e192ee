"""Gemma 2 in NumPy float64, straight from a GGUF file: the check on what export wrote.

Written from the published architecture, not from gemma2.py, and readable rather than fast.
"""

from pathlib import Path

import gguf
import numpy as np


class Reference:
    """A gemma2 GGUF opened for ``logits``."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self.metadata = {name: field.contents() for name, field in reader.fields.items()}
        self.weights = {
            t.name.removesuffix(".weight"): gguf.quants.dequantize(t.data, t.tensor_type).astype(
                np.float64
            )
            for t in reader.tensors
        }

    def logits(self, tokens: list[int]) -> np.ndarray:
        """tokens -> float64 [len(tokens), n_vocab]."""
        m = {k.removeprefix("gemma2."): v for k, v in self.metadata.items()}
        w = self.weights
        x = w["token_embd"][tokens] * np.sqrt(m["embedding_length"])
        for i in range(m["block_count"]):
            window = m["attention.sliding_window"] if i % 2 == 0 else len(tokens)
            h = self._norm(x, f"blk.{i}.attn_norm")
            h = self._attention(h, f"blk.{i}.", window, m) @ w[f"blk.{i}.attn_output"].T
            x = x + self._norm(h, f"blk.{i}.post_attention_norm")
            h = self._norm(x, f"blk.{i}.ffn_norm")
            h = _gelu_tanh(h @ w[f"blk.{i}.ffn_gate"].T) * (h @ w[f"blk.{i}.ffn_up"].T)
            x = x + self._norm(h @ w[f"blk.{i}.ffn_down"].T, f"blk.{i}.post_ffw_norm")
        return _softcap(
            self._norm(x, "output_norm") @ w["token_embd"].T, m["final_logit_softcapping"]
        )

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        eps = self.metadata["gemma2.attention.layer_norm_rms_epsilon"]
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * self.weights[name]

    def _attention(self, h: np.ndarray, layer: str, window: int, m: dict) -> np.ndarray:
        heads, kv_heads = m["attention.head_count"], m["attention.head_count_kv"]
        size, length = m["attention.key_length"], len(h)
        position = np.arange(length)
        q, k, v = (
            (h @ self.weights[f"{layer}attn_{name}"].T).reshape(length, -1, size)
            for name in ("q", "k", "v")
        )
        q, k = _rope(q, position), _rope(k, position)
        ahead = position[:, None] - position
        seen = (ahead >= 0) & (ahead < window)
        mixed = []
        for head in range(heads):
            group = head // (heads // kv_heads)
            scores = q[:, head] @ k[:, group].T / np.sqrt(size)
            scores = np.where(seen, _softcap(scores, m["attn_logit_softcapping"]), -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(weights / weights.sum(-1, keepdims=True) @ v[:, group])
        return np.concatenate(mixed, -1)


def _rope(x: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Turn the pairs (j, j + size/2) of x [T, heads, size] by position * 10000^(-2j / size)."""
    half = x.shape[-1] // 2
    angle = position[:, None, None] * 10000.0 ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag], -1)


def _softcap(x: np.ndarray, cap: float) -> np.ndarray:
    return cap * np.tanh(x / cap)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
