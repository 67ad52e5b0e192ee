"""Jamba (Lieber et al. 2024, arXiv 2403.19887): Mamba and attention layers, experts in some.

There is no rotary embedding: the Mamba layers tell where a token stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.models import mamba
from motet.models.family import View
from motet.models.keys import Keys
from motet.models.recurrent_config import JambaConfig, read_jamba
from motet.models.tensors import Choice, Expected, Shapes, gather, output_shape


@dataclass(frozen=True, slots=True)
class Attention:
    """An attention layer's tensors, by their GGUF names."""

    attn_norm: np.ndarray
    attn_q: Any
    attn_k: Any
    attn_v: Any
    attn_output: Any


@dataclass(frozen=True, slots=True)
class FeedForward:
    """A layer's feed-forward tensors: of one network, or a router (``inp``) and its experts."""

    ffn_norm: np.ndarray
    ffn_gate: Any
    ffn_up: Any
    ffn_down: Any
    ffn_gate_inp: Any
    ffn_gate_exps: tuple[Any, ...] | None
    ffn_up_exps: tuple[Any, ...] | None
    ffn_down_exps: tuple[Any, ...] | None


class Jamba:
    """The ``jamba`` architecture."""

    def __init__(self, config: JambaConfig, tensors: Mapping[str, Any], kernels: Any) -> None:
        self.config = config
        self.kernels = kernels
        self.layers = config.layer_specs()
        self.mixers = [
            gather(Attention, tensors, i) if heads else mamba.gather_mamba(tensors, i)
            for i, heads in enumerate(config.kv_heads)
        ]
        self.feed_forwards = [gather(FeedForward, tensors, i) for i in range(config.n_layers)]
        self.token_embd = tensors["token_embd.weight"]
        self.output_norm = tensors["output_norm.weight"]
        self.output = tensors.get("output.weight", self.token_embd)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> JambaConfig:
        """The settings."""
        return read_jamba(keys, n_vocab)

    @staticmethod
    def expected_tensors(config: JambaConfig) -> Expected:
        """Names and shapes. A layer is a mixture of experts where the file has a router for it."""
        d = config.d_model
        required: Shapes = {"token_embd.weight": (config.n_vocab, d), "output_norm.weight": (d,)}
        optional, choices = output_shape(config), ()
        for i, kv_heads in enumerate(config.kv_heads):
            required |= _attention_shapes(config, i) if kv_heads else _mamba_shapes(config, i)
            required[f"blk.{i}.ffn_norm.weight"] = (d,)
            choices += (_feed_forward(config, i),)
            if not kv_heads:
                optional[f"blk.{i}.ssm_conv1d.bias"] = (config.d_inner,)
        return Expected(required, optional, mamba.ARRAYS, choices)

    def forward(self, tokens: np.ndarray, view: View, wanted: np.ndarray) -> np.ndarray:
        """Logits float32 ``[R, n_vocab]`` of the rows ``wanted`` (int64 ``[R]``) of ``tokens``.

        ``tokens``: int32 ``[T]``. ``view``: what each layer reads and writes of memory.
        """
        config, kernels = self.config, self.kernels
        x = kernels.embedding(self.token_embd, tokens)
        last = config.n_layers - 1
        for i, mixer in enumerate(self.mixers):
            h = kernels.rms_norm(x, mixer.attn_norm, config.norm_eps)
            if isinstance(mixer, Attention):
                h, output = self._attend(mixer, h, view.layer(i)), mixer.attn_output
            else:
                h, output = mamba.mix(kernels, config, mixer, h, view.layer(i)), mixer.ssm_out
            if i == last:
                x, h = x[wanted], h[wanted]
            x += kernels.linear(h, output)[0]
            x += self._feed(self.feed_forwards[i], x)
        h = kernels.rms_norm(x, self.output_norm, config.norm_eps)
        return kernels.linear(h, self.output)[0]

    def _attend(self, block: Attention, h: np.ndarray, kv: Any) -> np.ndarray:
        config, kernels = self.config, self.kernels
        q, k, v = kernels.linear(h, block.attn_q, block.attn_k, block.attn_v)
        return kernels.attention(
            q.reshape(len(h), -1, config.head_dim),
            k.reshape(len(h), -1, config.head_dim),
            v.reshape(len(h), -1, config.value_dim),
            kv,
            scale=config.attention_scale,
        )

    def _feed(self, block: FeedForward, x: np.ndarray) -> np.ndarray:
        kernels = self.kernels
        h = kernels.rms_norm(x, block.ffn_norm, self.config.norm_eps)
        if block.ffn_gate_inp is None:
            h = kernels.gated(*kernels.linear(h, block.ffn_gate, block.ffn_up), "silu")
            return kernels.linear(h, block.ffn_down)[0]
        ids, weights = kernels.route(
            kernels.linear(h, block.ffn_gate_inp)[0], self.config.n_experts_used
        )
        return kernels.experts(
            h, ids, weights, block.ffn_gate_exps, block.ffn_up_exps, block.ffn_down_exps, "silu"
        )


def _attention_shapes(config: JambaConfig, layer: int) -> Shapes:
    d, block = config.d_model, f"blk.{layer}."
    return {
        block + "attn_norm.weight": (d,),
        block + "attn_q.weight": (config.n_heads * config.head_dim, d),
        block + "attn_k.weight": (config.kv_heads[layer] * config.head_dim, d),
        block + "attn_v.weight": (config.kv_heads[layer] * config.value_dim, d),
        block + "attn_output.weight": (d, config.n_heads * config.value_dim),
    }


def _mamba_shapes(config: JambaConfig, layer: int) -> Shapes:
    norms: Shapes = {
        f"blk.{layer}.ssm_dt_norm.weight": (config.dt_rank,),
        f"blk.{layer}.ssm_b_norm.weight": (config.d_state,),
        f"blk.{layer}.ssm_c_norm.weight": (config.d_state,),
    }
    return mamba.mamba_shapes(config, layer) | norms


def _feed_forward(config: JambaConfig, layer: int) -> Choice:
    d, ff, experts = config.d_model, config.d_ff, config.n_experts
    block = f"blk.{layer}.ffn_"
    dense: Shapes = {
        block + "gate.weight": (ff, d),
        block + "up.weight": (ff, d),
        block + "down.weight": (d, ff),
    }
    mixture: Shapes = {
        block + "gate_inp.weight": (experts, d),
        block + "gate_exps.weight": (experts, ff, d),
        block + "up_exps.weight": (experts, ff, d),
        block + "down_exps.weight": (experts, d, ff),
    }
    return Choice(block + "gate_inp.weight", mixture, dense)
