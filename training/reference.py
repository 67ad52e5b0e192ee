"""The tiny models in NumPy float64, straight from a GGUF file: the check on what export wrote.

Written from the published architectures, not from the torch classes, and readable rather than fast.
"""

from pathlib import Path

import gguf
import numpy as np


class Reference:
    """A GGUF opened for ``logits``; a family says what its layers do."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        self.metadata = metadata
        family = f"{metadata['general.architecture']}."
        self.m = {k.removeprefix(family): v for k, v in metadata.items() if k.startswith(family)}
        self.weights = {
            t.name.removesuffix(".weight"): gguf.quants.dequantize(t.data, t.tensor_type).astype(
                np.float64
            )
            for t in reader.tensors
        }

    def logits(self, tokens: list[int]) -> np.ndarray:
        """tokens -> float64 [len(tokens), n_vocab]."""
        raise NotImplementedError

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        eps = self.m["attention.layer_norm_rms_epsilon"]
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * self.weights[name]

    def heads(self, h: np.ndarray, layer: str, size: int) -> tuple[np.ndarray, ...]:
        """Queries, keys and values of h [T, d]: each [T, its heads, size]."""
        names = [f"{layer}attn_{name}" for name in ("q", "k", "v")]
        q, k, v = ((h @ self.weights[name].T).reshape(len(h), -1, size) for name in names)
        return q, k, v


class GemmaReference(Reference):
    """Gemma, and Gemma 2: a layer is what its tensors and the metadata say."""

    def logits(self, tokens: list[int]) -> np.ndarray:
        m, w = self.m, self.weights
        base, cap = m.get("rope.freq_base", 10000.0), m.get("attn_logit_softcapping", 0.0)
        x = w["token_embd"][tokens] * np.sqrt(m["embedding_length"])
        for i in range(m["block_count"]):
            local = "attention.sliding_window" in m and i % 2 == 0
            window = m["attention.sliding_window"] if local else len(tokens)
            q, k, v = self.heads(
                self.norm(x, f"blk.{i}.attn_norm"), f"blk.{i}.", m["attention.key_length"]
            )
            h = attend(_rope(q, base), _rope(k, base), v, window, cap)
            x = x + self._after(h @ w[f"blk.{i}.attn_output"].T, f"blk.{i}.post_attention_norm")
            h = self.norm(x, f"blk.{i}.ffn_norm")
            h = _gelu_tanh(h @ w[f"blk.{i}.ffn_gate"].T) * (h @ w[f"blk.{i}.ffn_up"].T)
            x = x + self._after(h @ w[f"blk.{i}.ffn_down"].T, f"blk.{i}.post_ffw_norm")
        logits = self.norm(x, "output_norm") @ w["token_embd"].T
        return _softcap(logits, m.get("final_logit_softcapping", 0.0))

    def _after(self, h: np.ndarray, name: str) -> np.ndarray:
        """What a block adds: Gemma 2 norms it once more."""
        return self.norm(h, name) if name in self.weights else h


class MambaReference(Reference):
    """Mamba, and Jamba: a layer is what its tensors say."""

    def logits(self, tokens: list[int]) -> np.ndarray:
        w = self.weights
        x = w["token_embd"][tokens]
        for i in range(self.m["block_count"]):
            layer = f"blk.{i}."
            h = self.norm(x, f"{layer}attn_norm")
            if f"{layer}ssm_in" in w:
                x = x + self._mixer(h, layer)
            else:
                size = len(w[f"{layer}attn_q"]) // self.m["attention.head_count"]
                mixed = attend(*self.heads(h, layer, size), window=len(tokens))
                x = x + mixed @ w[f"{layer}attn_output"].T
            if f"{layer}ffn_norm" in w:
                x = x + self._feed_forward(self.norm(x, f"{layer}ffn_norm"), layer)
        return self.norm(x, "output_norm") @ w["token_embd"].T

    def _mixer(self, h: np.ndarray, layer: str) -> np.ndarray:
        rank, size = self.m["ssm.time_step_rank"], self.m["ssm.state_size"]
        w = {k.removeprefix(layer): v for k, v in self.weights.items() if k.startswith(layer)}
        x, gate = np.split(h @ w["ssm_in"].T, 2, -1)
        before = np.vstack([np.zeros((self.m["ssm.conv_kernel"] - 1, x.shape[1])), x])
        windows = np.lib.stride_tricks.sliding_window_view(before, self.m["ssm.conv_kernel"], 0)
        x = _silu((windows * w["ssm_conv1d"]).sum(-1) + w["ssm_conv1d.bias"])
        dt, b, c = np.split(x @ w["ssm_x"].T, [rank, rank + size], -1)
        if "ssm_dt_norm" in w:
            dt, b, c = (
                self.norm(values, f"{layer}ssm_{name}_norm")
                for name, values in (("dt", dt), ("b", b), ("c", c))
            )
        dt = np.logaddexp(0, dt @ w["ssm_dt"].T + w["ssm_dt.bias"])
        state, y = np.zeros_like(w["ssm_a"]), np.empty_like(x)
        for t in range(len(x)):
            state = state * np.exp(dt[t, :, None] * w["ssm_a"]) + np.outer(dt[t] * x[t], b[t])
            y[t] = state @ c[t] + w["ssm_d"] * x[t]
        return y * _silu(gate) @ w["ssm_out"].T

    def _feed_forward(self, h: np.ndarray, layer: str) -> np.ndarray:
        w = self.weights
        names = [f"{layer}ffn_{name}" for name in ("gate", "up", "down")]
        if f"{layer}ffn_gate_inp" not in w:
            gate, up, down = (w[name] for name in names)
            return (_silu(h @ gate.T) * (h @ up.T)) @ down.T
        gates, ups, downs = (w[f"{name}_exps"] for name in names)
        scores = h @ w[f"{layer}ffn_gate_inp"].T
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        result = np.zeros_like(h)
        for t, token in enumerate(h):
            for e in np.argsort(-shares[t])[: self.m["expert_used_count"]]:
                hidden = _silu(gates[e] @ token) * (ups[e] @ token)
                result[t] += shares[t, e] * (downs[e] @ hidden)
        return result


FAMILIES = {
    "gemma": GemmaReference,
    "gemma2": GemmaReference,
    "mamba": MambaReference,
    "jamba": MambaReference,
}


def open_reference(path: Path) -> Reference:
    """The reference of the family that the file names."""
    field = gguf.GGUFReader(path).fields["general.architecture"]
    return FAMILIES[field.contents()](path)


def attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, window: int, softcap: float = 0.0
) -> np.ndarray:
    """q [T, heads, size], k and v [T, kv_heads, size] -> [T, heads * size]; scale size^-0.5."""
    length, heads, size = q.shape
    ahead = np.arange(length)[:, None] - np.arange(length)
    seen = (ahead >= 0) & (ahead < window)
    mixed = []
    for head in range(heads):
        group = head // (heads // k.shape[1])
        scores = q[:, head] @ k[:, group].T / np.sqrt(size)
        scores = np.where(seen, _softcap(scores, softcap), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed.append(weights / weights.sum(-1, keepdims=True) @ v[:, group])
    return np.concatenate(mixed, -1)


def _rope(x: np.ndarray, base: float) -> np.ndarray:
    """Turn the pairs (j, j + size/2) of x [T, heads, size] by position * base^(-2j / size)."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None, None] * base ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag], -1)


def _softcap(x: np.ndarray, cap: float) -> np.ndarray:
    return cap * np.tanh(x / cap) if cap else x


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
