"""Nemotron-H, dense and with experts (Nemotron 3)."""

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import UNUSED_BUFFERS, Keys, attention, tied
from motet.huggingface.families.deepseek import groups_of
from motet.huggingface.families.mamba import CONTEXT
from motet.huggingface.families.mamba2 import SCAN_OF_HEADS, refuse_bounds
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import interleaved, reshaped

_SCAN, _ATTENTION, _NETWORK, _EXPERTS = "scan", "attention", "network", "experts"
_KINDS = {
    **dict.fromkeys(("M", "mamba", "linear_attention"), _SCAN),
    **dict.fromkeys(("*", "attention", "full_attention"), _ATTENTION),
    **dict.fromkeys(("-", "mlp"), _NETWORK),
    **dict.fromkeys(("E", "moe"), _EXPERTS),
}
"""What a layer is, by a letter of a pattern or a name of a list."""


def nemotron_h(config: ConfigReader, files: Directory) -> Plan:
    """The ``nemotron_h`` architecture, or ``nemotron_h_moe`` where layers have experts."""
    kinds = _kinds(config)
    has_experts = _EXPERTS in kinds
    keys = attention(config, eps=("layer_norm_epsilon", "rms_norm_eps"))
    keys["attention.layer_norm_epsilon"] = keys["attention.layer_norm_rms_epsilon"]
    width, heads = keys["embedding_length"], keys["attention.head_count"]
    kv_heads = keys["attention.head_count_kv"]
    head_dim = config.integer("head_dim", "attention_head_dim", default=128)
    inner = config.integer("moe_intermediate_size") if has_experts else keys["feed_forward_length"]
    keys |= {
        "context_length": CONTEXT,
        "feed_forward_length": [inner if k in (_NETWORK, _EXPERTS) else 0 for k in kinds],
        "attention.head_count_kv": [kv_heads if k == _ATTENTION else 0 for k in kinds],
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.scaling.finetuned": False,
        "rope.dimension_count": width // max(heads, 1),
        "vocab_size": config.integer("vocab_size"),
    }
    keys |= _scan(config) | (_experts(config) if has_experts else {})
    _ignore(config)
    return Plan(
        "nemotron_h_moe" if has_experts else "nemotron_h",
        keys["block_count"],
        keys,
        renamed=(
            (r"^model\.", "backbone."),
            (r"\.dt_bias$", ".dt.bias"),
            (r"\.e_score_correction_bias$", ".e_score_correction.bias"),
            (r"(\.experts\.(?:up|down)_proj)$", r"\1.weight"),
            (r"^backbone\.layers\.(\d+)\.mixer\.experts\.", r"model.layers.\1.mlp.experts."),
        ),
        unused=(*UNUSED_BUFFERS, r"mtp\..*"),  # layers that draft tokens
        tied=tied(config, default=False),
        changes=SCAN_OF_HEADS
        | {
            "ssm_norm.weight": reshaped(keys["ssm.group_count"], -1),
            "attn_q.weight": interleaved(heads),  # as converters have it; nothing is rotated
            "attn_k.weight": interleaved(kv_heads),
        },
    )


def _kinds(config: ConfigReader) -> list[str]:
    """What each layer is."""
    names = "hybrid_override_pattern", "layers_block_type"
    given = config.value(*names)
    listed = list(given) if isinstance(given, str) else config.texts(*names)
    kinds = [_KINDS.get(kind, "") for kind in listed]
    if "" in kinds or {_NETWORK, _EXPERTS} <= set(kinds):
        raise UnsupportedError(
            f"{config.where}: layers are {shown(given)}",
            hint="Motet knows scans (M), attention (*), and networks (-) or experts (E)",
        )
    config.assume(num_hidden_layers=len(kinds))
    if config.integer("num_hidden_layers") != len(kinds):
        raise config.wrong(names, given, f"{config.value('num_hidden_layers')} layers")
    return kinds


def _scan(config: ConfigReader) -> Keys:
    heads = config.integer("mamba_num_heads", default=128)
    refuse_bounds(config, "time_step_limit")
    return {
        "ssm.conv_kernel": config.integer("conv_kernel", default=4),
        "ssm.inner_size": heads * config.integer("mamba_head_dim", default=64),
        "ssm.state_size": config.integer("ssm_state_size", default=128),
        "ssm.time_step_rank": heads,
        "ssm.group_count": config.integer("n_groups", default=8),
    }


def _experts(config: ConfigReader) -> Keys:
    keys: Keys = {
        "expert_count": config.integer("n_routed_experts"),
        "expert_used_count": config.integer("num_experts_per_tok"),
        "expert_feed_forward_length": config.integer("moe_intermediate_size"),
        "expert_shared_feed_forward_length": config.integer("moe_shared_expert_intermediate_size"),
        "expert_shared_count": config.integer("n_shared_experts", default=1),
        "expert_weights_norm": config.flag("norm_topk_prob", default=True),
        "expert_weights_scale": config.number("routed_scaling_factor", default=1.0),
    }
    latent = config.integer("moe_latent_size", default=0)
    if latent:
        keys["moe_latent_size"] = latent
    return keys | groups_of(config, grouped=True)


def _ignore(config: ConfigReader) -> None:
    config.only("mlp_hidden_act", "relu2", "another activation")
    config.only("mamba_hidden_act", "silu", "another activation")
    config.only("sliding_window", None, "layers that slide")
    # Biases show in the tensors.
    config.ignore("attention_bias", "mlp_bias", "use_bias", "mamba_proj_bias", "use_conv_bias")
    # Nothing is rotated.
    config.ignore("rope_theta", "rope_parameters", "partial_rotary_factor")
    # How fast, and how exactly, to compute.
    config.ignore("chunk_size", "use_mamba_kernels", "mamba_ssm_cache_dtype", "residual_in_fp32")
    config.ignore("num_logits_to_keep", "moe_shared_expert_overlap")
    # Training. transformers' code takes time_step_min for a bound, which models are not trained by.
    config.ignore("time_step_min", "time_step_max", "time_step_floor", "time_step_rank", "expand")
    config.ignore("rescale_prenorm_residual")
    # Layers that draft tokens, which are not run; and what dense models have of experts.
    config.ignore(
        "num_nextn_predict_layers", "mtp_layers_block_type", "mtp_hybrid_override_pattern"
    )
    config.ignore("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "n_group")
    config.ignore("moe_shared_expert_intermediate_size", "n_shared_experts", "topk_group")
    config.ignore("norm_topk_prob", "routed_scaling_factor", "moe_latent_size")
