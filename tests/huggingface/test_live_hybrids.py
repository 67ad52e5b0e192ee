"""Hybrids of scans and attention, as transformers saves and runs them, at shapes of their own.

transformers bounds Nemotron-H's time steps from below by ``time_step_min``, which says how they
begin in training; here it bounds nothing.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import MotetError
from tests.huggingface.sources import logits
from tests.parity.common import KERNELS

pytest.importorskip("torch", reason="needs torch, the oracle")
pytest.importorskip("transformers", reason="needs transformers, the oracle")

import torch

from tests.huggingface.test_live import SIZES, TOKENS, computed, filled, transformers

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_key_value_heads": 2}
FALCON: dict[str, Any] = {
    "head_dim": 8,
    "mamba_d_ssm": 40,
    "mamba_n_heads": 5,
    "mamba_d_head": 8,
    "mamba_d_state": 7,
    "mamba_norm_before_gate": False,
    "mamba_chunk_size": 16,
    "embedding_multiplier": 1.3,
    "lm_head_multiplier": 0.7,
    "attention_in_multiplier": 0.9,
    "attention_out_multiplier": 1.1,
    "key_multiplier": 0.37,
    "ssm_in_multiplier": 1.21,
    "ssm_out_multiplier": 0.83,
    "mlp_multipliers": [0.77, 1.17],
    "ssm_multipliers": [0.35, 0.71, 0.9, 1.3, 0.61],
}
NEMOTRON: dict[str, Any] = {
    "head_dim": 10,
    "mamba_num_heads": 6,
    "mamba_head_dim": 5,
    "ssm_state_size": 9,
    "n_groups": 3,
    "conv_kernel": 3,
    "chunk_size": 16,
    "time_step_min": 1e-30,
    "layer_norm_epsilon": 1e-4,
    "layers_block_type": ["linear_attention", "mlp", "full_attention", "linear_attention"],
}
MOE: dict[str, Any] = NEMOTRON | {
    "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"],
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 12,
    "moe_shared_expert_intermediate_size": 18,
    "routed_scaling_factor": 1.7,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon-h1": ("FalconH1", FALCON),
    "falcon-h1 with norms, tied": (
        "FalconH1",
        FALCON
        | {"mamba_rms_norm": True, "mamba_n_groups": 5, "tie_word_embeddings": True}
        | {"mamba_d_conv": 3},
    ),
    "nemotron-h": ("NemotronH", NEMOTRON),
    "nemotron-h with experts": ("NemotronH", MOE),
    "nemotron-h with groups of experts, latent": (
        "NemotronH",
        MOE | {"moe_latent_size": 20, "n_group": 4, "topk_group": 2, "norm_topk_prob": False},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_logits(name: str, tmp_path: Path) -> None:
    kind, options = CASES[name]
    sizes = {k: v for k, v in SIZES.items() if kind != "NemotronH" or k != "num_hidden_layers"}
    config = getattr(transformers, f"{kind}Config")(**sizes | SPECIAL | options)
    model = filled(getattr(transformers, f"{kind}ForCausalLM")(config))
    for at, buffer in model.named_buffers():
        if at.endswith("e_score_correction_bias"):
            buffer.copy_(0.3 * torch.randn_like(buffer))
    model.save_pretrained(tmp_path)
    theirs = computed(model).logits[0].numpy()
    for kernels in KERNELS.values():
        ours = logits(tmp_path, kernels, TOKENS)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("falcon-h1 with norms, tied", {"mamba_norm_before_gate": True}, "mamba_norm_before_gate"),
        ("falcon-h1", {"ssm_multipliers": [1.0]}, "ssm_multipliers"),
        ("falcon-h1", {"mamba_n_heads": 7}, "40 channels are not 7 heads"),
        ("falcon-h1", {"time_step_limit": [0.01, 0.1]}, "time_step_limit"),
        ("falcon-h1", {"attn_layer_indices": [1]}, "attn_layer_indices"),
        ("falcon-h1", {"mamba_d_ssm": 48, "mamba_n_heads": 6}, "ssm_in.weight"),
        ("nemotron-h", {"layers_block_type": "M-X*"}, "M-X*"),
        ("nemotron-h", {"layers_block_type": "M-E*"}, "M-E*"),
        ("nemotron-h", {"num_hidden_layers": 5}, "5 layers"),
        ("nemotron-h", {"mlp_hidden_act": "silu"}, "mlp_hidden_act"),
    ],
)
def test_what_is_not_known_is_refused(
    name: str, changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    kind, options = CASES[name]
    sizes = {k: v for k, v in SIZES.items() if kind != "NemotronH" or k != "num_hidden_layers"}
    config = getattr(transformers, f"{kind}Config")(**sizes | SPECIAL | options)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(MotetError) as refused:
        logits(tmp_path, KERNELS["reference"], TOKENS)
    assert named in str(refused.value)
