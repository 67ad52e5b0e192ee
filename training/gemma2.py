"""A small Gemma 2 in torch: even layers slide over a window, odd layers see everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.gemma import Gemma, GemmaConfig, RMSNorm, add_sizes, rotate

if TYPE_CHECKING:
    from gguf import GGUFWriter

QUERY_BLOCK = 64  # queries are taken this many at a time, and only the keys they may see


@dataclass(frozen=True)
class Gemma2Config(GemmaConfig):
    n_layers: int = 6
    d_ff: int = 384
    window: int = 64
    attn_softcap: float = 50.0
    final_softcap: float = 30.0
    dropout: float = 0.1


class Attention(nn.Module):
    def __init__(self, config: Gemma2Config, window: int) -> None:
        super().__init__()
        self.config, self.window = config, window
        d, size = config.d_model, config.head_dim
        self.q = nn.Linear(d, config.n_heads * size, bias=False)
        self.k = nn.Linear(d, config.n_kv_heads * size, bias=False)
        self.v = nn.Linear(d, config.n_kv_heads * size, bias=False)
        self.output = nn.Linear(config.n_heads * size, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x: [B, T, d_model] -> [B, T, d_model]."""
        c = self.config
        rows, length, _ = x.shape
        groups = c.n_heads // c.n_kv_heads
        q = self.q(x).view(rows, length, c.n_kv_heads, groups, c.head_dim).permute(0, 2, 3, 1, 4)
        k = self.k(x).view(rows, length, c.n_kv_heads, c.head_dim).transpose(1, 2)
        v = self.v(x).view(rows, length, c.n_kv_heads, c.head_dim).transpose(1, 2)
        q = rotate(q, cos, sin) * c.head_dim**-0.5
        k = rotate(k, cos, sin)
        blocks = []
        for start in range(0, length, QUERY_BLOCK):
            end = min(start + QUERY_BLOCK, length)
            first = max(0, start - self.window + 1) if self.window else 0
            block = q[:, :, :, start:end].reshape(rows, c.n_kv_heads, -1, c.head_dim)
            scores = (block @ k[:, :, first:end].transpose(-1, -2)).float()
            scores = c.attn_softcap * torch.tanh(scores / c.attn_softcap)
            scores = scores.view(rows, c.n_kv_heads, groups, end - start, end - first)
            distance = torch.arange(start, end)[:, None] - torch.arange(first, end)
            hidden = distance < 0
            if self.window:
                hidden |= distance >= self.window
            weights = scores.masked_fill(hidden, float("-inf")).softmax(-1).flatten(2, 3)
            mixed = weights.to(v.dtype) @ v[:, :, first:end]
            blocks.append(mixed.view(rows, c.n_kv_heads, groups, end - start, c.head_dim))
        mixed = torch.cat(blocks, 3).permute(0, 3, 1, 2, 4).reshape(rows, length, -1)
        return self.output(mixed)


class FeedForward(nn.Module):
    def __init__(self, config: Gemma2Config) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.gate(x), approximate="tanh") * self.up(x))


class Layer(nn.Module):
    def __init__(self, config: Gemma2Config, window: int) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attn = Attention(config, window)
        self.post_attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.ffn_norm = RMSNorm(config.d_model, config.norm_eps)
        self.ffn = FeedForward(config)
        self.post_ffw_norm = RMSNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        mixed = self.attn(self.attn_norm(x), cos, sin)
        x = x + self.dropout(self.post_attention_norm(mixed))
        return x + self.dropout(self.post_ffw_norm(self.ffn(self.ffn_norm(x))))


class Gemma2(Gemma):
    """tokens int64 [B, T] -> logits float32 [B, T, n_vocab]."""

    architecture = "gemma2"
    config: Gemma2Config

    def make_layer(self, index: int) -> nn.Module:
        return Layer(self.config, self.config.window if index % 2 == 0 else 0)

    def forward(self, tokens: Tensor) -> Tensor:
        cap = self.config.final_softcap
        return cap * torch.tanh(super().forward(tokens) / cap)

    def add_metadata(self, writer: GGUFWriter) -> None:
        """Write the configuration under the names llama.cpp gives it."""
        c = self.config
        add_sizes(writer, c)
        writer.add_attn_logit_softcapping(c.attn_softcap)
        writer.add_final_logit_softcapping(c.final_softcap)
        writer.add_sliding_window(c.window)
        writer.add_vocab_size(c.n_vocab)

    def named_weights(self) -> dict[str, Tensor]:
        """Every weight under the name llama.cpp gives it; the head is tied to the embedding."""
        weights = {"token_embd": self.embedding.weight, "output_norm": self.output_norm.weight}
        for i, layer in enumerate(self.layers):
            own = {
                "attn_norm": layer.attn_norm,
                "attn_q": layer.attn.q,
                "attn_k": layer.attn.k,
                "attn_v": layer.attn.v,
                "attn_output": layer.attn.output,
                "post_attention_norm": layer.post_attention_norm,
                "ffn_norm": layer.ffn_norm,
                "ffn_gate": layer.ffn.gate,
                "ffn_up": layer.ffn.up,
                "ffn_down": layer.ffn.down,
                "post_ffw_norm": layer.post_ffw_norm,
            }
            weights.update({f"blk.{i}.{name}": module.weight for name, module in own.items()})
        return {f"{name}.weight": weight for name, weight in weights.items()}
