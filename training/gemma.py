"""A small Gemma in torch: every layer sees everything, and positions enter by RoPE alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


class RMSNorm(nn.Module):
    """The weight multiplies as it is (Hugging Face stores Gemma's as weight - 1, GGUF does not)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE, NeoX pairing. x: [..., T, head_dim]; cos, sin: [T, head_dim / 2]."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def turns(length: int, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """RoPE's cosines and sines, float32 [length, head_dim / 2] each."""
    half = torch.arange(0, head_dim, 2, dtype=torch.float64)
    angles = torch.arange(length)[:, None] * base ** (-half / head_dim)
    return angles.cos().float(), angles.sin().float()


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
        self.layers = nn.ModuleList(self.make_layer(i) for i in range(config.n_layers))
        self.output_norm = RMSNorm(config.d_model, config.norm_eps)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.04)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)  # enters with size 1

    def make_layer(self, index: int) -> nn.Module:
        return Layer(self.config)

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


def add_sizes(writer: GGUFWriter, c: GemmaConfig) -> None:
    """Write what the first and the second Gemma have in common."""
    writer.add_context_length(c.context_length)
    writer.add_embedding_length(c.d_model)
    writer.add_block_count(c.n_layers)
    writer.add_feed_forward_length(c.d_ff)
    writer.add_head_count(c.n_heads)
    writer.add_head_count_kv(c.n_kv_heads)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
