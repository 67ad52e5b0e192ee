"""RWKV-6 (Finch): token shift, data-dependent decay, a matrix of state for each head.

Peng et al. 2024 (arXiv 2404.05892), §4; names of tensors as in GGUF.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.kernels.slots import RecurrentState
from motet.models.family import View
from motet.models.keys import Keys
from motet.models.rwkv6_config import Rwkv6Config, read_rwkv6
from motet.models.tensors import Choice, Expected, gather, output_shape

_HEAD_NORM_EPS = 64e-5
"""Of the norm over each head; no key has it. 1e-5 · head_size_divisor², 8 in every model."""
_MIXED = "wkvrg"
"""What each mixing of a token with the one before is for, in the order of the fused tensors."""


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's tensors, by their GGUF names; matrices are packed."""

    attn_norm: np.ndarray
    attn_norm_bias: np.ndarray
    time_mix_lerp_x: np.ndarray
    time_mix_lerp_fused: np.ndarray | None
    time_mix_lerp_w: np.ndarray | None
    time_mix_lerp_k: np.ndarray | None
    time_mix_lerp_v: np.ndarray | None
    time_mix_lerp_r: np.ndarray | None
    time_mix_lerp_g: np.ndarray | None
    time_mix_w1: Any
    time_mix_w2: tuple[Any, ...]
    time_mix_decay: np.ndarray
    time_mix_decay_w1: Any
    time_mix_decay_w2: Any
    time_mix_first: np.ndarray
    time_mix_receptance: Any
    time_mix_key: Any
    time_mix_value: Any
    time_mix_gate: Any
    time_mix_ln: np.ndarray
    time_mix_ln_bias: np.ndarray
    time_mix_output: Any
    attn_norm_2: np.ndarray
    attn_norm_2_bias: np.ndarray
    channel_mix_lerp_k: np.ndarray
    channel_mix_lerp_r: np.ndarray
    channel_mix_key: Any
    channel_mix_receptance: Any
    channel_mix_value: Any

    def lerps(self) -> np.ndarray:
        """Float32 ``[5, d]`` in the order ``_MIXED``; files of 2024 have five tensors for it."""
        if self.time_mix_lerp_fused is not None:
            return self.time_mix_lerp_fused.reshape(len(_MIXED), -1)
        return np.stack([getattr(self, f"time_mix_lerp_{name}") for name in _MIXED])


class Rwkv6:
    """The ``rwkv6`` architecture."""

    def __init__(self, config: Rwkv6Config, tensors: Mapping[str, Any], kernels: Any) -> None:
        self.config = config
        self.kernels = kernels
        self.layers = config.layer_specs()
        self.blocks = [gather(Block, tensors, i) for i in range(config.n_layers)]
        self.lerps = [block.lerps() for block in self.blocks]
        self.token_embd = tensors["token_embd.weight"]
        self.token_embd_norm = tensors["token_embd_norm.weight"], tensors["token_embd_norm.bias"]
        self.output_norm = tensors["output_norm.weight"], tensors["output_norm.bias"]
        self.output = tensors["output.weight"]

    @staticmethod
    def read_config(keys: Keys, n_vocab: int) -> Rwkv6Config:
        """The settings."""
        return read_rwkv6(keys, n_vocab)

    @staticmethod
    def expected_tensors(config: Rwkv6Config) -> Expected:
        """Names and shapes."""
        d, ff, mixed = config.d_model, config.d_ff, len(_MIXED)
        shapes = {"token_embd.weight": (config.n_vocab, d), **output_shape(config)}
        norms = ["token_embd_norm", "output_norm"]
        choices = []
        for blk in (f"blk.{i}" for i in range(config.n_layers)):
            norms += (f"{blk}.{name}" for name in ("attn_norm", "attn_norm_2", "time_mix_ln"))
            lerp = f"{blk}.time_mix_lerp"
            fused = {f"{lerp}_fused.weight": (mixed, 1, 1, d)}
            apart = {f"{lerp}_{name}.weight": (d,) for name in _MIXED}
            choices.append(Choice(f"{lerp}_fused.weight", fused, apart))
            shapes |= {f"{lerp}_x.weight": (d,), f"{blk}.time_mix_decay.weight": (d,)}
            shapes |= {f"{blk}.channel_mix_lerp_{name}.weight": (d,) for name in "kr"}
            for name in ("receptance", "key", "value", "gate", "output"):
                shapes[f"{blk}.time_mix_{name}.weight"] = (d, d)
            shapes |= {
                f"{blk}.time_mix_w1.weight": (mixed * config.mix_rank, d),
                f"{blk}.time_mix_w2.weight": (mixed, d, config.mix_rank),
                f"{blk}.time_mix_decay_w1.weight": (config.decay_rank, d),
                f"{blk}.time_mix_decay_w2.weight": (d, config.decay_rank),
                f"{blk}.time_mix_first.weight": (config.n_heads, config.head_size),
                f"{blk}.channel_mix_receptance.weight": (d, d),
                f"{blk}.channel_mix_key.weight": (ff, d),
                f"{blk}.channel_mix_value.weight": (d, ff),
            }
        shapes |= {f"{norm}.{end}": (d,) for norm in norms for end in ("weight", "bias")}
        return Expected(shapes, {}, frozenset({"time_mix_first.weight"}), tuple(choices))

    def forward(self, tokens: np.ndarray, view: View, wanted: np.ndarray) -> np.ndarray:
        """Logits float32 ``[R, n_vocab]`` of the rows ``wanted`` (int64 ``[R]``) of ``tokens``.

        ``tokens``: int32 ``[T]``. ``view``: what each layer reads and writes of memory.
        """
        config, kernels = self.config, self.kernels
        x = kernels.embedding(self.token_embd, tokens)
        x = kernels.layer_norm(x, *self.token_embd_norm, config.norm_eps)
        last = config.n_layers - 1
        for i, block in enumerate(self.blocks):
            state = view.layer(i)
            x += self._time_mix(block, self.lerps[i], x, state)
            h = kernels.layer_norm(x, block.attn_norm_2, block.attn_norm_2_bias, config.norm_eps)
            shifted = kernels.token_shift(h, state.arrays[1], state.runs)
            if i == last:
                x, h, shifted = x[wanted], h[wanted], shifted[wanted]
            x += self._channel_mix(block, h, shifted)
            if config.rescale_every and (i + 1) % config.rescale_every == 0:
                x *= 0.5
        h = kernels.layer_norm(x, *self.output_norm, config.norm_eps)
        return kernels.linear(h, self.output)[0]

    def _time_mix(
        self, block: Block, lerps: np.ndarray, x: np.ndarray, state: RecurrentState
    ) -> np.ndarray:
        config, kernels = self.config, self.kernels
        h = kernels.layer_norm(x, block.attn_norm, block.attn_norm_bias, config.norm_eps)
        shifted = kernels.token_shift(h, state.arrays[0], state.runs)
        w, k, v, r, g = self._mixed(block, lerps, h, shifted)
        low = kernels.activate(kernels.linear(w, block.time_mix_decay_w1)[0], "tanh")
        w = kernels.linear(low, block.time_mix_decay_w2)[0]
        w += block.time_mix_decay
        y = kernels.wkv6(
            kernels.linear(r, block.time_mix_receptance)[0],
            kernels.linear(k, block.time_mix_key)[0],
            kernels.linear(v, block.time_mix_value)[0],
            w,
            block.time_mix_first,
            state.arrays[2],
            state.runs,
        )
        heads = (config.n_heads, config.head_size)
        scale, bias = block.time_mix_ln.reshape(heads), block.time_mix_ln_bias.reshape(heads)
        y = kernels.layer_norm(y.reshape(-1, *heads), scale, bias, _HEAD_NORM_EPS)
        y = kernels.gated(kernels.linear(g, block.time_mix_gate)[0], y.reshape(x.shape), "silu")
        return kernels.linear(y, block.time_mix_output)[0]

    def _mixed(
        self, block: Block, lerps: np.ndarray, h: np.ndarray, shifted: np.ndarray
    ) -> list[np.ndarray]:
        """What w, k, v, r and g are made of: mixes whose shares depend on the token itself."""
        kernels = self.kernels
        low = kernels.linear(kernels.mix(h, shifted, block.time_mix_lerp_x), block.time_mix_w1)[0]
        low = kernels.activate(low, "tanh").reshape(len(h), len(_MIXED), -1)
        return [
            kernels.mix(h, shifted, kernels.linear(part, up)[0] + lerp)
            for part, up, lerp in zip(
                np.ascontiguousarray(low.swapaxes(0, 1)), block.time_mix_w2, lerps, strict=True
            )
        ]

    def _channel_mix(self, block: Block, h: np.ndarray, shifted: np.ndarray) -> np.ndarray:
        kernels = self.kernels
        k = kernels.linear(kernels.mix(h, shifted, block.channel_mix_lerp_k), block.channel_mix_key)
        value = kernels.linear(kernels.activate(k[0], "relu2"), block.channel_mix_value)[0]
        r = kernels.mix(h, shifted, block.channel_mix_lerp_r)
        r = kernels.linear(r, block.channel_mix_receptance)[0]
        return kernels.gated(r, value, "sigmoid")
