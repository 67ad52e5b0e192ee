"""A small Gemma in torch: every layer sees everything, and positions enter by RoPE alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from training.gemma2 import RMSNorm, add_sizes, rotate, turns

if TYPE_CHECKING:
    from gguf import GGUFWriter


@dataclass(frozen=True)
class GemmaConfig:
    n_vocab: int
    context_length: int
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 32
    d_ff: int = 256
    rope_base: float = 10000.0
    norm_eps: float = 1e-6


class Layer(nn.Module):
    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.config = config
        d, size = config.d_model, config.head_dim
        self.attn_norm = RMSNorm(d, config.norm_eps)
        self.attn_q = nn.Linear(d, config.n_heads * size, bias=False)
        self.attn_k = nn.Linear(d, config.n_kv_heads * size, bias=False)
        self.attn_v = nn.Linear(d, config.n_kv_heads * size, bias=False)
        self.attn_output = nn.Linear(config.n_heads * size, d, bias=False)
        self.ffn_norm = RMSNorm(d, config.norm_eps)
        self.ffn_gate = nn.Linear(d, config.d_ff, bias=False)
        self.ffn_up = nn.Linear(d, config.d_ff, bias=False)
        self.ffn_down = nn.Linear(config.d_ff, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x: [B, T, d_model] -> [B, T, d_model]."""
        y = self.attn_norm(x)
        q, k, v = (
            part.unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)
            for part in (self.attn_q(y), self.attn_k(y), self.attn_v(y))
        )
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.attn_output(mixed.transpose(1, 2).flatten(2))
        y = self.ffn_norm(x)
        return x + self.ffn_down(F.gelu(self.ffn_gate(y), approximate="tanh") * self.ffn_up(y))


class Gemma(nn.Module):
    """tokens int64 [B, T] -> logits float32 [B, T, n_vocab]."""

    architecture = "gemma"

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.n_vocab, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.output_norm = RMSNorm(config.d_model, config.norm_eps)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.04)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)  # enters with size 1

    def forward(self, tokens: Tensor) -> Tensor:
        c = self.config
        cos, sin = turns(tokens.shape[1], c.head_dim, c.rope_base)
        x = self.embedding(tokens) * c.d_model**0.5
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.output_norm(x), self.embedding.weight).float()

    def auxiliary_loss(self) -> float:
        return 0.0

    def add_metadata(self, writer: GGUFWriter) -> None:
        """Write the configuration under the names llama.cpp gives it."""
        c = self.config
        add_sizes(writer, c)
        writer.add_rope_freq_base(c.rope_base)
        writer.add_vocab_size(c.n_vocab)

    def named_weights(self) -> dict[str, Tensor]:
        """Every weight under the name llama.cpp gives it; the head is tied to the embedding."""
        weights = {"token_embd": self.embedding.weight, "output_norm": self.output_norm.weight}
        for i, layer in enumerate(self.layers):
            weights |= {f"blk.{i}.{name}": module.weight for name, module in layer.named_children()}
        return {f"{name}.weight": weight for name, weight in weights.items()}
