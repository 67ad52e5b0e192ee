"""Which tensors stay float32 whatever type a file is written in, as llama.cpp's converter has it.

They are small, and every token's path hangs on them; llama.cpp's kernels take no other type for
most of them.
"""

import re

_KEPT = re.compile(
    r"(ffn_gate_inp|ffn_gate_inp_shexp|ssm_conv1d|ssm_conv1d_[qkv]|shortconv\.conv|time_mix_first"
    r"|time_mix_w[12]|time_mix_decay_w[12]|time_mix_lerp_fused)\.weight"
)
_KEPT_OUTSIDE = ("position_embd.weight", "token_types.weight")
_BLOCK = re.compile(r"(enc\.|dec\.)?blk\.\d+\.")


def stays_f32(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the tensor is float32 in every file: vectors, norms, what is no ``.weight``, …"""
    within = _BLOCK.sub("", name, count=1)
    return (
        len(shape) <= 1
        or name.endswith("_norm.weight")
        or not name.endswith((".weight", ".lora_a", ".lora_b"))
        or name in _KEPT_OUTSIDE
        or _KEPT.fullmatch(within) is not None
    )
