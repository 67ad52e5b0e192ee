"""The recurrent half of the oracle: tiny Mamba, Falcon-Mamba, Mamba-2 and Jamba models as GGUF."""

from collections.abc import Callable
from typing import Any

import torch
import transformers

ARCHITECTURES = ("mamba", "mamba2", "jamba")

_SIZES = {
    "vocab_size": 48,
    "hidden_size": 16,
    "dtype": torch.float32,
    "attn_implementation": "eager",
}
_SCAN = {"state_size": 5, "expand": 2, "layer_norm_epsilon": 1e-3}


def _mamba() -> Any:
    """A step rank, a state size and a width that are no multiples of 4; a tied output."""
    sizes = _SIZES | {"hidden_size": 18}
    return transformers.MambaConfig(**sizes, **_SCAN, num_hidden_layers=3, time_step_rank=3)


def _mamba_no_bias() -> Any:
    """A convolution of three tokens without bias, and an output of its own."""
    return transformers.MambaConfig(
        **_SIZES,
        **_SCAN,
        num_hidden_layers=2,
        conv_kernel=3,
        use_conv_bias=False,
        tie_word_embeddings=False,
    )


def _falcon_mamba() -> Any:
    return transformers.FalconMambaConfig(
        **_SIZES, **_SCAN, num_hidden_layers=2, time_step_rank=3, mixer_rms_eps=1e-3
    )


def _mamba2() -> Any:
    """One group, heads of 8; the scan in chunks shorter than the text."""
    return transformers.Mamba2Config(
        **_SIZES, **_SCAN, num_hidden_layers=3, num_heads=4, head_dim=8, n_groups=1, chunk_size=16
    )


def _mamba2_groups() -> Any:
    """Eight groups of two heads each, as in Mamba-Codestral."""
    return transformers.Mamba2Config(
        **_SIZES,
        **_SCAN,
        num_hidden_layers=2,
        num_heads=16,
        head_dim=2,
        n_groups=8,
        chunk_size=32,
        tie_word_embeddings=True,
    )


_JAMBA = {
    "num_hidden_layers": 4,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_layer_period": 4,
    "attn_layer_offset": 2,
    "mamba_d_state": 5,
    "mamba_dt_rank": 3,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-3,
}


def _jamba() -> Any:
    """Layer 2 attends, layers 1 and 3 are mixtures of two of five experts."""
    return transformers.JambaConfig(
        **_SIZES, **_JAMBA, num_experts=5, num_experts_per_tok=2, output_router_logits=False
    )


def _jamba_dense() -> Any:
    """As the small Jambas: no experts; and a tied output."""
    sizes = _JAMBA | {"num_hidden_layers": 3, "num_key_value_heads": 1}
    return transformers.JambaConfig(
        **_SIZES, **sizes, num_experts=1, num_experts_per_tok=1, tie_word_embeddings=True
    )


CASES: dict[str, Callable[[], Any]] = {
    "mamba": _mamba,
    "mamba_no_bias": _mamba_no_bias,
    "falcon_mamba": _falcon_mamba,
    "mamba2": _mamba2,
    "mamba2_groups": _mamba2_groups,
    "jamba": _jamba,
    "jamba_dense": _jamba_dense,
}


def fill(name: str, p: torch.Tensor) -> bool:
    """Random values for a scan's parameters, so that states last for some tens of tokens."""
    if name.endswith("A_log"):
        p.copy_(0.5 * torch.randn_like(p) - 1)
    elif name.endswith(("dt_bias", "dt_proj.bias")):
        p.copy_(torch.randn_like(p) - 2)
    elif name.endswith(".D"):
        p.copy_(1 + 0.3 * torch.randn_like(p))
    else:
        return False
    return True


def write_keys(writer: Any, config: Any) -> None:
    """The architecture's keys, as llama.cpp's converter has them."""
    kind = config.model_type
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    if kind == "jamba":
        writer.add_context_length(config.max_position_embeddings)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        attends = [
            i % config.attn_layer_period == config.attn_layer_offset for i in _layers(config)
        ]
        writer.add_head_count_kv([config.num_key_value_heads * int(a) for a in attends])
        writer.add_ssm_conv_kernel(config.mamba_d_conv)
        writer.add_ssm_inner_size(config.mamba_expand * config.hidden_size)
        writer.add_ssm_state_size(config.mamba_d_state)
        writer.add_ssm_time_step_rank(config.mamba_dt_rank)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        return
    writer.add_context_length(2**20)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(config.conv_kernel)
    writer.add_ssm_inner_size(config.expand * config.hidden_size)
    writer.add_ssm_state_size(config.state_size)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    if kind == "mamba2":
        writer.add_ssm_time_step_rank(config.num_heads)
        writer.add_ssm_group_count(config.n_groups)
    else:
        writer.add_ssm_time_step_rank(config.time_step_rank)
        writer.add_ssm_dt_b_c_rms(kind == "falcon_mamba")


def _layers(config: Any) -> range:
    return range(config.num_hidden_layers)


_NAMES = {
    "norm": "attn_norm.weight",
    "in_proj": "ssm_in.weight",
    "conv1d": "ssm_conv1d",
    "x_proj": "ssm_x.weight",
    "dt_proj": "ssm_dt",
    "dt_bias": "ssm_dt.bias",
    "out_proj": "ssm_out.weight",
    "A_log": "ssm_a",
    "D": "ssm_d",
    "mixer.norm": "ssm_norm.weight",
    "dt_layernorm": "ssm_dt_norm.weight",
    "b_layernorm": "ssm_b_norm.weight",
    "c_layernorm": "ssm_c_norm.weight",
    "input_layernorm": "attn_norm.weight",
    "pre_ff_layernorm": "ffn_norm.weight",
    "q_proj": "attn_q.weight",
    "k_proj": "attn_k.weight",
    "v_proj": "attn_v.weight",
    "o_proj": "attn_output.weight",
    "gate_proj": "ffn_gate.weight",
    "up_proj": "ffn_up.weight",
    "down_proj": "ffn_down.weight",
    "router": "ffn_gate_inp.weight",
    "embeddings": "token_embd.weight",
    "embed_tokens": "token_embd.weight",
    "norm_f": "output_norm.weight",
    "final_layernorm": "output_norm.weight",
    "lm_head": "output.weight",
}


def tensors(model: Any) -> dict[str, torch.Tensor]:
    """By llama.cpp's names, in its layouts."""
    out = {}
    for full, parameter in model.named_parameters():  # a tied head is not listed again
        parts = full.split(".")
        block = f"blk.{parts[2]}." if parts[1] == "layers" else ""
        if "experts" in parts:
            out |= experts(block, parts[-1], parameter)
            continue
        kind = parts.pop() if parts[-1] in ("weight", "bias") else ""
        name = _NAMES["mixer.norm" if parts[-2:] == ["mixer", "norm"] else parts[-1]]
        if name in ("ssm_conv1d", "ssm_dt"):
            name += "." + kind
        out[block + name] = _stored(name, parameter, model.config)
    return out


def _stored(name: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
    per_head = config.model_type == "mamba2"
    if name == "ssm_a":
        tensor = -torch.exp(tensor)
    if name in ("ssm_a", "ssm_d") and per_head:
        return tensor[:, None]
    if name == "ssm_conv1d.weight":
        return tensor.squeeze(1)
    return tensor.reshape(config.n_groups, -1) if name == "ssm_norm.weight" else tensor


def experts(block: str, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gate, up and down matrices of all of a layer's experts, in llama.cpp's layout."""
    if name == "down_proj":
        return {block + "ffn_down_exps.weight": tensor}
    gate, up = tensor.chunk(2, dim=1)
    return {block + "ffn_gate_exps.weight": gate, block + "ffn_up_exps.weight": up}
