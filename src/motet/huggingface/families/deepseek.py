"""DeepSeek V2 and V3."""

import numpy as np

from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    EXPERTS_DOWN,
    EXPERTS_IN_ONE,
    HEADS,
    UNUSED_BUFFERS,
    Keys,
    sizes,
    tied,
)
from motet.huggingface.families.rotary import rope, rope_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import Change, rearranged

SOFTMAX, SIGMOID = 1, 2
"""``expert_gating_func``, as llama.cpp numbers them."""
_LATENT_EPS = 1e-6
"""Of the norms within latent attention, whatever rms_norm_eps says, in all programs for it."""
_MOST_DRAFTS = 64


def deepseek_v2(config: ConfigReader, files: Directory) -> Plan:
    """The ``deepseek2`` architecture, for model type deepseek_v2."""
    config.only("scoring_func", "softmax", "another kind of scores")
    # transformers does not look at it; the authors' code leaves the scale out with it.
    config.only("norm_topk_prob", False, "weights about which programs disagree")
    method = config.text("topk_method", default="greedy")
    if method not in ("greedy", "group_limited_greedy"):
        raise UnsupportedError(f"{config.where}: topk_method is {shown(method)}")
    keys: Keys = {"expert_gating_func": SOFTMAX}
    grouped = method == "group_limited_greedy"
    return _deepseek(config, keys | groups_of(config, grouped=grouped))


def deepseek_v3(config: ConfigReader, files: Directory) -> Plan:
    """The ``deepseek2`` architecture, for model type deepseek_v3."""
    config.only("scoring_func", "sigmoid", "another kind of scores")
    config.only("topk_method", "noaux_tc", "another choice of experts")
    config.only("rope_interleave", True, "halves that rotate together")
    keys: Keys = {"expert_gating_func": SIGMOID}
    if config.flag("norm_topk_prob", default=True):
        keys["expert_weights_norm"] = True
    return _deepseek(config, keys | groups_of(config, grouped=True))


def groups_of(config: ConfigReader, *, grouped: bool) -> Keys:
    """Groups of experts, of which the best are taken first; without such a choice there is one."""
    names = (("n_group", "expert_group_count"), ("topk_group", "expert_group_used_count"))
    found = {key: config.integer(name, default=None) for name, key in names}
    return {key: n if grouped else 1 for key, n in found.items() if n is not None}


def _deepseek(config: ConfigReader, keys: Keys) -> Plan:
    keys = sizes(config) | keys
    heads = config.integer(*HEADS)
    config.only("num_key_value_heads", heads, "heads that share keys and values")
    latent, plain = config.integer("kv_lora_rank"), config.integer("qk_nope_head_dim")
    rotary, values = config.integer("qk_rope_head_dim"), config.integer("v_head_dim")
    keys |= {
        "feed_forward_length": config.integer("intermediate_size"),
        "attention.head_count": heads,
        "attention.head_count_kv": 1,
        "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", default=_LATENT_EPS),
        "attention.kv_lora_rank": latent,
        "attention.key_length": latent + rotary,
        "attention.value_length": latent,
        "attention.key_length_mla": plain + rotary,
        "attention.value_length_mla": values,
        "rope.dimension_count": rotary,
        "vocab_size": config.integer("vocab_size"),
    }
    if keys["attention.layer_norm_rms_epsilon"] != _LATENT_EPS:
        # No key of llama.cpp's; it takes the layers' own epsilon.
        keys["attention.latent_layer_norm_rms_epsilon"] = _LATENT_EPS
    q_rank = config.integer("q_lora_rank", default=0)
    if q_rank:
        keys["attention.q_lora_rank"] = q_rank
    keys |= experts_of(config) | _rotary(config)
    config.only("hidden_act", "silu", "another activation")
    config.only("attention_bias", False, "biases")
    config.only("mlp_bias", False, "biases")
    config.ignore("head_dim", "qk_head_dim")  # made of the others
    config.ignore("ep_size", "aux_loss_alpha", "seq_aux")  # training
    return Plan(
        "deepseek2",
        keys["block_count"],
        keys,
        renamed=(EXPERTS_DOWN, (r"\.e_score_correction_bias$", ".e_score_correction.bias")),
        unused=(*UNUSED_BUFFERS, *drafts_of(config, keys["block_count"])),
        tied=tied(config, False),
        splits=EXPERTS_IN_ONE | absorbed(heads, plain, values),
    )


def absorbed(heads: int, plain: int, values: int) -> dict[str, dict[str, Change]]:
    """``Plan.splits`` of latent attention: what keys and values are made by, apart."""
    return {
        "kv_b_proj.weight": {
            "k_b_proj.weight": _of_heads(heads, plain + values, 0, plain, turned=True),
            "v_b_proj.weight": _of_heads(heads, plain + values, plain, plain + values),
        }
    }


def experts_of(config: ConfigReader) -> Keys:
    """The keys of a mixture, without how its experts are scored."""
    config.only("moe_layer_freq", 1, "experts in some layers only")
    return {
        "leading_dense_block_count": config.integer("first_k_dense_replace", default=0),
        "expert_count": config.integer("n_routed_experts", "num_experts", "num_local_experts"),
        "expert_used_count": config.integer("num_experts_per_tok"),
        "expert_feed_forward_length": config.integer("moe_intermediate_size"),
        "expert_shared_count": config.integer("n_shared_experts", default=0),
        "expert_weights_scale": config.number("routed_scaling_factor", default=1.0),
    }


def _rotary(config: ConfigReader) -> Keys:
    """YaRN's two factors: one that rotated parts are multiplied by, one for whole scores."""
    rotary = rope_of(config)
    keys: Keys = {}
    if rotary.text("rope_type", default="default") == "yarn":
        mscale = rotary.number("mscale", default=None)
        of_scores = rotary.number("mscale_all_dim", default=None)
        if of_scores is not None:
            keys["rope.scaling.yarn_log_multiplier"] = 0.1 * of_scores
        # The first is their ratio where both are given; of other cases programs disagree.
        if (mscale or 1.0) != (of_scores or 1.0) or (of_scores and not mscale):
            raise UnsupportedError(
                f"{rotary.where}: mscale is {mscale}, mscale_all_dim {of_scores}",
                hint="Motet runs such models where they are the same",
            )
    return keys | rope(rotary)


def drafts_of(config: ConfigReader, layers: int) -> tuple[str, ...]:
    """Layers after the last that draft tokens (DeepSeek-AI 2024, arXiv 2412.19437, §2.2)."""
    drafts = config.integer("num_nextn_predict_layers", "num_mtp_layers", default=0)
    if drafts > _MOST_DRAFTS:
        raise ModelFileError(f"{config.where}: {drafts} layers that draft tokens")
    numbers = "|".join(str(layers + i) for i in range(drafts))
    return (rf"model\.layers\.(?:{numbers})\..*",) * bool(drafts)


def _of_heads(heads: int, rows: int, first: int, last: int, *, turned: bool = False) -> Change:
    """Rows ``first`` to ``last`` - 1 of every head's: ``[heads, rows, latent]``, or turned."""

    def make(values: np.ndarray) -> np.ndarray:
        each = values.reshape(heads, rows, values.shape[-1])[:, first:last]
        return each.swapaxes(1, 2) if turned else each

    return rearranged(make)
