"""Tiny random models of every family with transformers, and their conversion to GGUF.

The conversion says again, in a few lines, what llama.cpp's convert_hf_to_gguf.py does to names,
norm weights and the rows of q and k. Needs torch and transformers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers

from tests.parity import oracle_layer_norms, oracle_recurrent

_SIZES = {
    "vocab_size": 48,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-3,  # so large that a wrong one shows
    "attn_implementation": "eager",
    "dtype": torch.float32,
}
_NARROW = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
_GEMMA = {"attention_bias": False, "hidden_activation": "gelu_pytorch_tanh"}


def _llama() -> Any:
    """Grouped heads, llama3 scaling, and an output head tied to the embedding."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    return transformers.LlamaConfig(
        **_SIZES, **_NARROW, num_hidden_layers=2, rope_parameters=rope, tie_word_embeddings=True
    )


def _llama_biased() -> Any:
    """One key head a query head, biases everywhere, linear scaling, an output head of its own."""
    return transformers.LlamaConfig(
        **_SIZES,
        **(_NARROW | {"num_key_value_heads": 4, "head_dim": 4}),
        num_hidden_layers=2,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
        attention_bias=True,
        mlp_bias=True,
    )


def _llama_yarn() -> Any:
    rope = {
        "rope_type": "yarn",
        "rope_theta": 100.0,
        "factor": 4.0,
        "original_max_position_embeddings": 48,
    }
    sizes = _NARROW | {"head_dim": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    return transformers.LlamaConfig(**_SIZES, **sizes, num_hidden_layers=2, rope_parameters=rope)


def _mistral() -> Any:
    """A sliding window on every layer, and heads wider than d / heads."""
    sizes = _NARROW | {"head_dim": 12}
    return transformers.MistralConfig(**_SIZES, **sizes, num_hidden_layers=2, sliding_window=20)


def _qwen2() -> Any:
    sizes = {k: v for k, v in _NARROW.items() if k != "head_dim"}
    return transformers.Qwen2Config(**_SIZES, **sizes, num_hidden_layers=2)


def _qwen3() -> Any:
    """Norms on q and k, and heads wider than d / heads; a tied output."""
    return transformers.Qwen3Config(
        **_SIZES, **_NARROW, num_hidden_layers=2, tie_word_embeddings=True
    )


def _mixtral() -> Any:
    """Two of five experts in every layer, their weights renormalised."""
    return transformers.MixtralConfig(
        **_SIZES, **_NARROW, num_hidden_layers=2, num_local_experts=5, num_experts_per_tok=2
    )


def _gemma() -> Any:
    """One key head for all queries."""
    return transformers.GemmaConfig(
        **_SIZES, **(_NARROW | {"num_key_value_heads": 1}), **_GEMMA, num_hidden_layers=2
    )


def _gemma2() -> Any:
    return transformers.Gemma2Config(
        **_SIZES,
        **_NARROW,
        **_GEMMA,
        num_hidden_layers=3,
        sliding_window=20,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=8.0,
    )


def _gemma3() -> Any:
    """Seven layers, the sixth of them global, with its own rotary base stretched linearly."""
    rope = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 8.0},
    }
    return transformers.Gemma3TextConfig(
        **_SIZES,
        **(_NARROW | {"intermediate_size": 16}),
        **_GEMMA,
        num_hidden_layers=7,
        sliding_window=20,
        query_pre_attn_scalar=8,
        final_logit_softcapping=8.0,
        rope_parameters=rope,
    )


CASES: dict[str, Callable[[], Any]] = {
    "llama": _llama,
    "llama_biased": _llama_biased,
    "llama_yarn": _llama_yarn,
    "mistral": _mistral,
    "mixtral": _mixtral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    **oracle_recurrent.CASES,
    **oracle_layer_norms.CASES,
}


def random_model(config: Any, seed: int) -> Any:
    """A model whose every weight matters: uneven norms and biases, logits with a deviation of 4."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    offset = 0.0 if config.model_type.startswith("gemma") else 1.0
    with torch.no_grad():
        for name, p in model.named_parameters():
            if oracle_recurrent.fill(name, p) or oracle_layer_norms.fill(name, p):
                pass
            elif "norm" in name:
                p.copy_(offset + 0.3 * torch.randn_like(p))
            elif name.endswith("bias"):
                p.copy_(0.3 * torch.randn_like(p))
            elif "embed" in name or "lm_head" in name:
                p.copy_(4 / config.hidden_size**0.5 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) / p.shape[-1] ** 0.5)
    return model


def oracle_logits(model: Any, tokens: np.ndarray) -> np.ndarray:
    """float32 ``[n, n_vocab]`` by transformers, in one go."""
    with torch.no_grad():
        return model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0].numpy()


def write_gguf(model: Any, path: Path) -> None:
    """The model as F32 GGUF with llama.cpp's names and no vocabulary."""
    config = model.config
    kind = config.model_type.removesuffix("_text")
    architecture = {"mistral": "llama", "mixtral": "llama", "falcon_mamba": "mamba"}.get(kind, kind)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tokenizer_model("no_vocab")
    if architecture in oracle_recurrent.ARCHITECTURES:
        oracle_recurrent.write_keys(writer, config)
        tensors = oracle_recurrent.tensors(model)
    elif architecture in oracle_layer_norms.ARCHITECTURES:
        oracle_layer_norms.write_keys(writer, config)
        tensors = oracle_layer_norms.tensors(model)
    else:
        _write_keys(writer, config, architecture)
        tensors = _tensors(model, architecture)
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor.detach().numpy(), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_keys(writer: Any, config: Any, architecture: str) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if architecture != "qwen2":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if getattr(config, "sliding_window", None) and architecture != "qwen2":
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "mixtral":
        writer.add_expert_count(config.num_local_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if architecture in ("gemma2", "gemma3"):
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    rope = config.rope_parameters
    if architecture == "gemma3":
        writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
        rope = rope["full_attention"]
    if architecture not in ("gemma", "gemma2"):  # whose converters leave the base out
        writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate": "ffn_gate_inp",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_NAMES_NORMED_TWICE = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def _tensors(model: Any, architecture: str) -> dict[str, torch.Tensor]:
    config = model.config
    names = _NAMES | (_NAMES_NORMED_TWICE if architecture in ("gemma2", "gemma3") else {})
    tensors = {}
    for full, parameter in model.named_parameters():  # a tied head is not listed again
        name, kind = full.rsplit(".", 1)
        if name.startswith("model.layers."):
            _, _, index, inner = name.split(".", 3)
            if inner == "mlp.experts":
                tensors |= oracle_recurrent.experts(f"blk.{index}.", kind, parameter)
                continue
            out = f"blk.{index}.{names[inner]}.{kind}"
        else:
            out = f"{names[name]}.{kind}"
        tensor = parameter
        if architecture.startswith("gemma") and "norm" in out:
            tensor = tensor + 1
        if architecture == "llama" and ".attn_q." in out:
            tensor = _interleaved(tensor, config.num_attention_heads)
        if architecture == "llama" and ".attn_k." in out:
            tensor = _interleaved(tensor, config.num_key_value_heads)
        tensors[out] = tensor
    if "llama3" in str(config.rope_parameters):
        tensors["rope_freqs.weight"] = _llama3_divisors(config)
    return tensors


def _interleaved(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows (i, i + half) of every head brought next to each other."""
    split = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return split.swapaxes(1, 2).reshape(tensor.shape)


def _llama3_divisors(config: Any) -> torch.Tensor:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    steps = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    return config.rope_parameters["rope_theta"] ** -steps / scaled
