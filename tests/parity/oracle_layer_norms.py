"""MPT, GPT-2 and StarCoder2, the decoders with layer norms: part of ``oracle.py``."""

from collections.abc import Callable
from typing import Any

import gguf
import torch
import transformers

ARCHITECTURES = ("mpt", "gpt2", "starcoder2")

_SIZES = {"vocab_size": 48, "attn_implementation": "eager", "dtype": torch.float32}
_EPS = 1e-3  # so large that a wrong one shows


def _mpt(heads: int, **attention: Any) -> Any:
    return transformers.MptConfig(
        **_SIZES,
        d_model=24,
        n_heads=heads,
        n_layers=2,
        max_seq_len=256,
        layer_norm_epsilon=_EPS,
        attn_config=attention,
    )


def _mpt_power() -> Any:
    return _mpt(4)


def _mpt_clamped() -> Any:
    """Heads that are no power of 2, whose slopes come from two series, and narrow q, k and v."""
    return _mpt(6, clip_qkv=1.5)


def _gpt2() -> Any:
    return transformers.GPT2Config(
        **_SIZES,
        n_positions=256,
        n_embd=16,
        n_layer=2,
        n_head=4,
        n_inner=24,
        layer_norm_epsilon=_EPS,
        bos_token_id=None,
        eos_token_id=None,
    )


def _starcoder2(**changes: Any) -> Any:
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "norm_epsilon": _EPS,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    }
    return transformers.Starcoder2Config(**_SIZES, **sizes | changes)


def _starcoder2_sliding() -> Any:
    """A sliding window, no biases but those of norms, and an output of its own."""
    return _starcoder2(sliding_window=20, use_bias=False, tie_word_embeddings=False)


CASES: dict[str, Callable[[], Any]] = {
    "mpt": _mpt_power,
    "mpt_clamped": _mpt_clamped,
    "gpt2": _gpt2,
    "starcoder2": _starcoder2,
    "starcoder2_sliding": _starcoder2_sliding,
}


def fill(name: str, p: torch.Tensor) -> bool:
    """Random values for parameters whose names do not say what they are."""
    if ".ln_" in name and name.endswith("weight"):
        p.copy_(1 + 0.3 * torch.randn_like(p))
    elif name.endswith(("wte.weight", "wpe.weight")):
        p.copy_(4 / p.shape[1] ** 0.5 * torch.randn_like(p))
    else:
        return False
    return True


def write_keys(writer: Any, config: Any) -> None:
    """The architecture's keys, as llama.cpp's converter has them."""
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if config.model_type == "mpt":
        writer.add_context_length(config.max_seq_len)
        writer.add_feed_forward_length(4 * config.d_model)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        if config.attn_config.clip_qkv:
            writer.add_clamp_kqv(config.attn_config.clip_qkv)
        writer.add_max_alibi_bias(float(config.attn_config.alibi_bias_max))
    elif config.model_type == "gpt2":
        writer.add_context_length(config.n_positions)
        writer.add_feed_forward_length(config.n_inner)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_context_length(config.max_position_embeddings)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_eps(config.norm_epsilon)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        if config.sliding_window:
            writer.add_sliding_window(config.sliding_window)


def tensors(model: Any) -> dict[str, torch.Tensor]:
    """By llama.cpp's names, as its own table has them. GPT-2's matrices stand transposed."""
    config = model.config
    architecture = gguf.MODEL_ARCH[config.model_type.upper()]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    out = {}
    for full, parameter in model.named_parameters():  # a tied head is not listed again
        name = names.get_name(full, try_suffixes=(".weight", ".bias"))
        assert name, full
        transposed = config.model_type == "gpt2" and ".c_" in full and full.endswith("weight")
        out[name] = parameter.T if transposed else parameter
    return out
