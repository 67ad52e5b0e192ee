"""Gemma 4 with Self-Extend in float64, as ``extend_reference.Decoder`` of the others."""

import math
from collections.abc import Mapping

import numpy as np

from tests.parity.extend_reference import Decoder, Extension, capped, gelu, linear, turned

Weights = Mapping[str, np.ndarray]


class Gemma4Decoder(Decoder):
    """gemma4, with per-layer embeddings, shared keys and values, and experts where they are."""

    def logits(self, tokens: np.ndarray, extension: Extension | None = None) -> np.ndarray:
        """float64 ``[T, n_vocab]``."""
        layers = self.keys["block_count"]
        own = layers - self.keys["attention.shared_kv_layers"]
        embedding = self.weights["token_embd.weight"]
        x = embedding[tokens]
        x = x * math.sqrt(x.shape[1])
        inputs = self.inputs(tokens, x)
        kept: dict[bool, tuple[np.ndarray, np.ndarray]] = {}
        for i in range(layers):
            block = {
                name.removeprefix(f"blk.{i}."): value
                for name, value in self.weights.items()
                if name.startswith(f"blk.{i}.")
            }
            slides = self.keys["attention.sliding_window_pattern"][i]
            h = self.norm(x, block, "attn_norm")
            if i < own:
                kept[slides] = self.keys_and_values(block, h, slides)
            h = self.attend(block, h, slides, *kept[slides], extension)
            x = x + self.norm(h, block, "post_attention_norm")
            x = x + self.norm(self.feed_forward(block, x), block, "post_ffw_norm")
            if inputs is not None:
                h = gelu(linear(x, block, "inp_gate")) * inputs[:, i]
                x = x + self.norm(linear(h, block, "proj"), block, "post_norm")
            x = x * block.get("layer_output_scale.weight", 1.0)
        x = self.norm(x, self.weights, "output_norm")
        return capped(x @ embedding.T, self.key("final_logit_softcapping"))

    def inputs(self, tokens: np.ndarray, x: np.ndarray) -> np.ndarray | None:
        """``[T, layers, width]``: what each layer is given of each token."""
        width = self.keys["embedding_length_per_layer_input"]
        if not width:
            return None
        shape = len(tokens), -1, width
        of_x = linear(x, self.weights, "per_layer_model_proj") / math.sqrt(x.shape[1])
        of_x = self.norm(of_x.reshape(shape), self.weights, "per_layer_proj_norm")
        of_token = self.weights["per_layer_token_embd.weight"][tokens].reshape(shape)
        return (of_x + of_token * math.sqrt(width)) / math.sqrt(2)

    def keys_and_values(
        self, block: Weights, h: np.ndarray, slides: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = len(h), -1, self.keys[f"attention.key_length{'_swa' * slides}"]
        k = linear(h, block, "attn_k").reshape(shape)
        v = linear(h, block, "attn_v").reshape(shape) if "attn_v.weight" in block else k
        return self.norm(k, block, "attn_k_norm"), self.unit(v)

    def attend(
        self,
        block: Weights,
        h: np.ndarray,
        slides: bool,
        k: np.ndarray,
        v: np.ndarray,
        ext: Extension | None,
    ) -> np.ndarray:
        count = len(h)
        q = linear(h, block, "attn_q").reshape(count, self.heads, -1)
        q = self.norm(q, block, "attn_q_norm")
        distance = np.arange(count)[:, None] - np.arange(count)
        seen = distance >= 0
        relative, factors = distance * seen, np.ones(count)
        if slides:
            seen &= distance < self.window
        elif ext is not None:
            relative, factors = ext.relative(), ext.factors()
        frequencies = self.frequencies(slides)
        mixed = np.empty((count, self.heads, v.shape[2]))
        for head in range(self.heads):
            of = head * k.shape[1] // self.heads
            scores = turned(q[:, head], k[:, of], relative, frequencies, 1.0, False)
            scores = np.where(seen, scores * factors[:, None], -np.inf)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed[:, head] = weights / weights.sum(axis=1, keepdims=True) @ v[:, of]
        return linear(mixed.reshape(count, -1), block, "attn_output")

    def frequencies(self, slides: bool) -> np.ndarray:
        """Radians a position of each pair of channels."""
        swa = "_swa" * slides
        width = self.keys[f"attention.key_length{swa}"]
        rotary = self.keys.get(f"rope.dimension_count{swa}", width)
        found = self.keys[f"rope.freq_base{swa}"] ** (-np.arange(rotary // 2) * 2 / rotary)
        return found if slides else found / self.weights["rope_freqs.weight"]

    def feed_forward(self, block: Weights, h: np.ndarray) -> np.ndarray:
        """Of the residual: the MLP, with the experts beside it."""
        seen = self.norm(h, block, "ffn_norm")
        up = gelu(linear(seen, block, "ffn_gate")) * linear(seen, block, "ffn_up")
        out = linear(up, block, "ffn_down")
        if "ffn_gate_inp.weight" not in block:
            return out
        seen = self.unit(h) * block["ffn_gate_inp.scale"] / math.sqrt(h.shape[1])
        shares = np.exp(linear(seen, block, "ffn_gate_inp"))
        seen = self.norm(h, block, "pre_ffw_norm_2")
        mixed = np.zeros_like(out)
        for t, share in enumerate(shares):
            best = np.argsort(-share)[: self.keys["expert_used_count"]]
            for e in best:
                gate, up = np.split(block["ffn_gate_up_exps.weight"][e] @ seen[t], 2)
                weight = share[e] / share[best].sum() * block["ffn_down_exps.scale"][e]
                mixed[t] += weight * (block["ffn_down_exps.weight"][e] @ (gelu(gate) * up))
        out = self.norm(out, block, "post_ffw_norm_1")
        return out + self.norm(mixed, block, "post_ffw_norm_2")

    def unit(self, x: np.ndarray) -> np.ndarray:
        """A norm without a weight."""
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + self.eps)
