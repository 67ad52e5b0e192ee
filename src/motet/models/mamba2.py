"""Mamba-2 (Dao, Gu 2024, arXiv 2405.21060), with one group of B and C or several (Codestral)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from motet.kernels.slots import RecurrentState
from motet.models.family import View
from motet.models.keys import Keys
from motet.models.recurrent_config import Mamba2Config, read_mamba2
from motet.models.tensors import Expected, Shapes, gather, output_shape

_ARRAYS = frozenset({"ssm_a", "ssm_d", "ssm_conv1d.weight", "ssm_norm.weight"})


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's tensors, by their GGUF names; ``ssm_a`` and ``ssm_d`` are ``[n_heads]``."""

    attn_norm: np.ndarray
    ssm_in: tuple[Any, ...]
    """For the gate z; for x, B and C; and for the time step."""
    ssm_conv1d: np.ndarray
    ssm_conv1d_bias: np.ndarray | None
    ssm_dt_bias: np.ndarray
    ssm_a: np.ndarray
    ssm_d: np.ndarray
    ssm_norm: np.ndarray
    ssm_out: Any


class Mamba2:
    """The ``mamba2`` architecture."""

    def __init__(self, config: Mamba2Config, tensors: Mapping[str, Any], kernels: Any) -> None:
        self.config = config
        self.kernels = kernels
        self.layers = config.layer_specs()
        blocks = [gather(Block, tensors, i) for i in range(config.n_layers)]
        self.blocks = [replace(b, ssm_a=b.ssm_a[:, 0], ssm_d=b.ssm_d[:, 0]) for b in blocks]
        self.token_embd = tensors["token_embd.weight"]
        self.output_norm = tensors["output_norm.weight"]
        self.output = tensors.get("output.weight", self.token_embd)

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Mamba2Config:
        """The settings."""
        return read_mamba2(keys, n_vocab)

    @staticmethod
    def expected_tensors(config: Mamba2Config) -> Expected:
        """Names and shapes."""
        d, inner, heads = config.d_model, config.d_inner, config.n_heads
        convolved = config.d_convolved
        required: Shapes = {"token_embd.weight": (config.n_vocab, d), "output_norm.weight": (d,)}
        optional = output_shape(config)
        for i in range(config.n_layers):
            required |= {
                f"blk.{i}.attn_norm.weight": (d,),
                f"blk.{i}.ssm_in.weight": (inner + convolved + heads, d),
                f"blk.{i}.ssm_conv1d.weight": (convolved, config.d_conv),
                f"blk.{i}.ssm_dt.bias": (heads,),
                f"blk.{i}.ssm_a": (heads, 1),
                f"blk.{i}.ssm_d": (heads, 1),
                f"blk.{i}.ssm_norm.weight": (config.n_groups, inner // config.n_groups),
                f"blk.{i}.ssm_out.weight": (d, inner),
            }
            optional[f"blk.{i}.ssm_conv1d.bias"] = (convolved,)
        return Expected(
            required, optional, _ARRAYS, parts={"ssm_in.weight": (inner, convolved, heads)}
        )

    def forward(self, tokens: np.ndarray, view: View, wanted: np.ndarray) -> np.ndarray:
        """Logits float32 ``[R, n_vocab]`` of the rows ``wanted`` (int64 ``[R]``) of ``tokens``.

        ``tokens``: int32 ``[T]``. ``view``: what each layer reads and writes of memory.
        """
        config, kernels = self.config, self.kernels
        x = kernels.embedding(self.token_embd, tokens)
        last = config.n_layers - 1
        for i, block in enumerate(self.blocks):
            h = kernels.rms_norm(x, block.attn_norm, config.norm_eps)
            z, y = self._scan(block, h, view.layer(i))
            if i == last:
                x, z, y = x[wanted], z[wanted], y[wanted]
            h = kernels.gated(z, y, "silu").reshape(len(x), *block.ssm_norm.shape)
            h = kernels.rms_norm(h, block.ssm_norm, config.norm_eps).reshape(len(x), config.d_inner)
            x += kernels.linear(h, block.ssm_out)[0]
        h = kernels.rms_norm(x, self.output_norm, config.norm_eps)
        return kernels.linear(h, self.output)[0]

    def _scan(
        self, block: Block, h: np.ndarray, state: RecurrentState
    ) -> tuple[np.ndarray, np.ndarray]:
        """The gate z and the scan's output y, both ``[T, d_inner]``."""
        config, kernels = self.config, self.kernels
        tails, states = state.arrays
        inner, grouped = config.d_inner, config.n_groups * config.d_state
        z, xbc, dt = kernels.linear(h, *block.ssm_in)
        xbc = kernels.causal_conv(
            xbc, block.ssm_conv1d, block.ssm_conv1d_bias, tails, state.runs, "silu"
        )
        x, b, c = xbc[:, :inner], xbc[:, inner:-grouped], xbc[:, -grouped:]
        y = kernels.mamba2_scan(
            x, dt, block.ssm_dt_bias, block.ssm_a, b, c, block.ssm_d, states, state.runs
        )
        return z, y
