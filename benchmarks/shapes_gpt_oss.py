"""The shape of gpt-oss-20b: see ``shapes``."""

from collections.abc import Iterator
from dataclasses import dataclass

import gguf
import numpy as np


@dataclass(frozen=True)
class GptOss:
    """gpt-oss-20b, of so many layers."""

    layers: int
    d_model: int = 2880
    vocabulary: int = 201088
    context: int = 131072
    heads: int = 64
    kv_heads: int = 8
    head_dim: int = 64
    window: int = 128
    experts: int = 32
    used: int = 4
    expert_width: int = 2880

    architecture = "gpt-oss"

    def metadata(self, writer: gguf.GGUFWriter) -> None:
        """The keys that llama.cpp's converter writes for the model."""
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.d_model)
        writer.add_block_count(self.layers)
        writer.add_feed_forward_length(self.expert_width)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.kv_heads)
        writer.add_key_length(self.head_dim)
        writer.add_value_length(self.head_dim)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(150000.0)
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(32.0)
        writer.add_rope_scaling_orig_ctx_len(4096)
        writer.add_sliding_window(self.window)
        writer.add_expert_count(self.experts)
        writer.add_expert_used_count(self.used)
        writer.add_expert_feed_forward_length(self.expert_width)
        writer.add_vocab_size(self.vocabulary)

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor."""
        d, n, inner = self.d_model, self.experts, self.expert_width
        rows = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "token_embd.weight", (self.vocabulary, d)
        yield "output_norm.weight", (d,)
        yield "output.weight", (self.vocabulary, d)
        for layer in range(self.layers):
            block = f"blk.{layer}."
            yield block + "attn_norm.weight", (d,)
            yield block + "post_attention_norm.weight", (d,)
            yield block + "attn_sinks.weight", (self.heads,)
            for name, dims in (
                ("attn_q", (rows[0], d)),
                ("attn_k", (rows[1], d)),
                ("attn_v", (rows[1], d)),
                ("attn_output", (d, rows[0])),
                ("ffn_gate_inp", (n, d)),
                ("ffn_gate_exps", (n, inner, d)),
                ("ffn_up_exps", (n, inner, d)),
                ("ffn_down_exps", (n, d, inner)),
            ):
                yield f"{block}{name}.weight", dims
                yield f"{block}{name}.bias", dims[:-1]

    def plain(self, name: str, dims: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Norm weights near 1, small biases, and the routers."""
        values = rng.standard_normal(dims).astype(np.float32)
        if "norm" in name:
            return 1 + 0.1 * values
        return values * np.float32(0.1 if name.endswith("bias") else dims[-1] ** -0.5)
