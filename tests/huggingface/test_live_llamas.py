"""Families of Llama's kind, as transformers saves and runs them, at other shapes than goldens'."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.huggingface.sources import logits
from tests.parity.common import KERNELS

pytest.importorskip("torch", reason="needs torch, the oracle")
pytest.importorskip("transformers", reason="needs transformers, the oracle")

from tests.huggingface.test_live import SIZES, TOKENS, computed, filled, transformers

GROUPED = {"num_key_value_heads": 2}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.1, 1.2],
    "long_factor": [1.5, 2.0, 4.0],
}
STRETCHED = {
    "rope_type": "yarn",
    "rope_theta": 5000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 75,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3moe": (
        "Qwen3Moe",
        {
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 8,
            "head_dim": 8,
            "norm_topk_prob": True,
        },
    ),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 9, "tie_word_embeddings": False}),
    "granite": (
        "Granite",
        {
            "attention_multiplier": 0.3,
            "embedding_multiplier": 2.0,
            "residual_multiplier": 0.7,
            "logits_scaling": 0.5,
            "attention_bias": True,
        },
    ),
    "olmo2": ("Olmo2", {"rope_parameters": STRETCHED}),
    "olmo3": ("Olmo3", {"num_hidden_layers": 5, "sliding_window": 20}),
    "glm4": ("Glm4", {"head_dim": 8}),
    "glm4 without biases": ("Glm4", {"head_dim": 8, "attention_bias": False}),
    "phi3": ("Phi3", {"sliding_window": 30, "original_max_position_embeddings": 300}),
    "phi4": (
        "Phi3",
        {
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "rope_parameters": LONG,
            "original_max_position_embeddings": 64,
        },
    ),
    "gpt-oss": (
        "GptOss",
        {
            "num_hidden_layers": 3,
            "head_dim": 12,
            "num_local_experts": 5,
            "num_experts_per_tok": 3,
            "sliding_window": 20,
            "rope_parameters": STRETCHED | {"truncate": False},
        },
    ),
    "ministral3": (
        "Ministral3",
        {
            "head_dim": 12,
            "rope_parameters": STRETCHED
            | {"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.2},
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_logits(name: str, tmp_path: Path) -> None:
    kind, options = CASES[name]
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{kind}Config")(**SIZES | GROUPED | special | options)
    model = filled(getattr(transformers, f"{kind}ForCausalLM")(config))
    model.save_pretrained(tmp_path)
    theirs = computed(model).logits[0].numpy()
    for kernels in KERNELS.values():
        ours = logits(tmp_path, kernels, TOKENS)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
