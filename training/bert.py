"""A small BERT in torch: every token sees every other, and the norms come after the sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from gguf import PoolingType
from torch import Tensor, nn

if TYPE_CHECKING:
    from gguf import GGUFWriter


@dataclass(frozen=True)
class BertConfig:
    n_vocab: int
    context_length: int
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 4
    d_ff: int = 256
    norm_eps: float = 1e-12
    dropout: float = 0.1


class Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        d = config.d_model
        self.attn_q = nn.Linear(d, d)
        self.attn_k = nn.Linear(d, d)
        self.attn_v = nn.Linear(d, d)
        self.attn_output = nn.Linear(d, d)
        self.attn_output_norm = nn.LayerNorm(d, config.norm_eps)
        self.ffn_up = nn.Linear(d, config.d_ff)
        self.ffn_down = nn.Linear(config.d_ff, d)
        self.layer_output_norm = nn.LayerNorm(d, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: [B, T, d_model], seen: bool [B, 1, 1, T] -> [B, T, d_model]."""
        q, k, v = (
            part(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (self.attn_q, self.attn_k, self.attn_v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        mixed = self.attn_output(mixed.transpose(1, 2).flatten(2))
        x = self.attn_output_norm(x + self.dropout(mixed))
        return self.layer_output_norm(x + self.dropout(self.ffn_down(F.gelu(self.ffn_up(x)))))


class Bert(nn.Module):
    """tokens int64 [B, T] and which of them are no padding, bool [B, T] -> float32 [B, d_model].

    The vector of a row is the mean over its tokens.
    """

    architecture = "bert"

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        self.token_embd = nn.Embedding(config.n_vocab, d)
        self.position_embd = nn.Embedding(config.context_length, d)
        self.token_types = nn.Embedding(2, d)
        self.token_embd_norm = nn.LayerNorm(d, config.norm_eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.dropout = nn.Dropout(config.dropout)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                sums = ("position_embd", "token_types", "attn_output", "ffn_down")
                small = any(part in name for part in sums)
                nn.init.normal_(parameter, std=0.01 if small else 0.1)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @torch.no_grad()
    def begin_with(self, vectors: Tensor) -> None:
        """Let a row's vector be the sum of these [n_vocab, d_model - 2], but for a factor.

        The norms would make all of them as long as the longest. What they lack in length goes into
        two more values, which are each other's opposite and which the last norm leaves out.
        """
        lengths = vectors.square().sum(1)
        rest = ((lengths.max() - lengths) / 2).sqrt()[:, None]
        size = self.token_embd.weight.std() / (lengths.max() / self.config.d_model).sqrt()
        self.token_embd.weight.copy_(torch.cat([vectors, rest, -rest], 1) * size)
        self.layers[-1].layer_output_norm.weight[-2:] = 0.0

    def hidden(self, tokens: Tensor, real: Tensor) -> Tensor:
        """The hidden rows [B, T, d_model]."""
        x = self.token_embd(tokens) + self.position_embd.weight[: tokens.shape[1]]
        x = self.dropout(self.token_embd_norm(x + self.token_types.weight[0]))
        for layer in self.layers:
            x = layer(x, real[:, None, None, :])
        return x

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        kept = real[:, :, None].float()
        return (self.hidden(tokens, real).float() * kept).sum(1) / kept.sum(1)

    def add_metadata(self, writer: GGUFWriter) -> None:
        """Write the configuration under the names llama.cpp gives it."""
        c = self.config
        writer.add_block_count(c.n_layers)
        writer.add_context_length(c.context_length)
        writer.add_embedding_length(c.d_model)
        writer.add_feed_forward_length(c.d_ff)
        writer.add_head_count(c.n_heads)
        writer.add_layer_norm_eps(c.norm_eps)
        writer.add_causal_attention(False)
        writer.add_pooling_type(PoolingType.MEAN)

    def named_weights(self) -> dict[str, Tensor]:
        """Every weight under the name llama.cpp gives it."""
        return {
            name.replace("layers.", "blk."): parameter
            for name, parameter in self.named_parameters()
        }
