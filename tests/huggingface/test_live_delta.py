"""Families by the gated delta rule, as transformers saves and runs them, at other shapes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import UnsupportedError
from motet.huggingface import HuggingFaceDirectory
from tests.huggingface.sources import logits
from tests.parity.common import KERNELS, tolerance

pytest.importorskip("torch", reason="needs torch, the oracle")
pytest.importorskip("transformers", reason="needs transformers, the oracle")

from tests.huggingface.test_live import SIZES, TOKENS, computed, filled, keys, transformers

LAYERS = {"num_hidden_layers": 5, "num_key_value_heads": 2, "head_dim": 8}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 3,
}
EXPERTS = {
    "num_experts": 5,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 20,
}
KIMI = {
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "model_max_length": 300,
    "linear_attn_config": {
        "full_attn_layers": [2, 4],
        "kda_layers": [1, 3],
        "head_dim": 12,
        "num_heads": 4,
        "short_conv_kernel_size": 3,
    },
    "kv_lora_rank": 12,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
    "moe_intermediate_size": 8,
    "num_experts": 6,
    "num_experts_per_token": 2,
    "num_shared_experts": 2,
    "first_k_dense_replace": 2,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3next": ("Qwen3Next", LAYERS | LINEAR | EXPERTS),
    "qwen35": ("Qwen3_5", LAYERS | LINEAR),
    "qwen35, one key head": ("Qwen3_5", LAYERS | LINEAR | {"linear_num_key_heads": 1}),
    "qwen35moe": ("Qwen3_5Moe", LAYERS | LINEAR | EXPERTS),
    "kimilinear": ("KimiLinear", KIMI),
    "kimilinear, groups": ("KimiLinear", KIMI | {"num_expert_group": 3, "topk_group": 2}),
}


def made(name: str) -> Any:
    kind, options = CASES[name]
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "rms_norm_eps": 1e-3}
    sizes = {key: value for key, value in SIZES.items() if key not in options}
    if kind == "KimiLinear":
        del sizes["max_position_embeddings"]
    text = "Text" if kind.startswith("Qwen3_5") else ""
    config = getattr(transformers, f"{kind}{text}Config")(**sizes | special | options)
    return filled(getattr(transformers, f"{kind}ForCausalLM")(config))


@pytest.mark.parametrize("name", CASES)
def test_logits(name: str, tmp_path: Path) -> None:
    model = made(name)
    theirs = computed(model).logits[0].numpy()
    model.save_pretrained(tmp_path)
    for kernels in KERNELS.values():
        ours = logits(tmp_path, kernels, TOKENS)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance(name.split(",")[0]))


@pytest.mark.parametrize("kind", ["Qwen3_5", "Qwen3_5Moe"])
def test_one_that_sees_is_run_without_its_eyes(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And without the layers that draft tokens."""
    from safetensors.torch import load_file, save_file

    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(
        getattr(transformers, f"{kind}Config")(
            text_config=made("qwen35moe" if kind.endswith("Moe") else "qwen35").config.to_dict(),
            vision_config=vision | {"patch_size": 4, "out_hidden_size": 24},
        )
    )
    model = filled(model)
    model.save_pretrained(tmp_path)
    theirs = computed(model).logits[0].numpy()
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    assert any(".visual." in name for name in tensors)
    save_file(tensors | {"mtp.fc.weight": tensors["lm_head.weight"][:24].clone()}, path)
    with caplog.at_level("INFO", "motet"):
        ours = logits(tmp_path, KERNELS["native"], TOKENS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-4)
    assert "visual.*" in caplog.text and "mtp.*" in caplog.text


def test_kimi_as_transformers_holds_it(tmp_path: Path) -> None:
    """Its convolutions and experts in one tensor each, and its settings under other names."""
    model = made("kimilinear")
    model.save_pretrained(tmp_path / "before")
    model.config.layer_types = None
    model.save_pretrained(tmp_path / "now", save_original_format=False)
    before, now = tmp_path / "before", tmp_path / "now"
    config = json.loads((now / "config.json").read_text())
    linear = config.pop("linear_attn_config")
    kinds = [
        "full_attention" if i + 1 in linear["full_attn_layers"] else "linear" for i in range(4)
    ]
    config |= {"layer_types": kinds, "linear_num_heads": linear["num_heads"]}
    config |= {"linear_head_dim": linear["head_dim"], "linear_conv_kernel_dim": 3}
    (now / "config.json").write_text(json.dumps(config))
    assert keys(before) == keys(now)
    with HuggingFaceDirectory.open(before) as a, HuggingFaceDirectory.open(now) as b:
        assert a.tensors == b.tensors
        for name in a.tensors:
            assert np.array_equal(a.raw(name), b.raw(name))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("qwen3next", "mlp_only_layers", [1]),
        ("qwen3next", "decoder_sparse_step", 2),
        ("qwen3next", "norm_topk_prob", False),
        ("qwen35", "attn_output_gate", False),
        ("qwen35", "output_gate_type", "sigmoid"),
        ("qwen35", "hidden_act", "gelu"),
        ("qwen35", "attention_bias", True),
        ("qwen35", "something_new", 3),
        ("kimilinear", "mla_use_nope", False),
        ("kimilinear", "moe_renormalize", False),
        ("kimilinear", "moe_router_activation_func", "softmax"),
        ("kimilinear", "mlp_layer_types", ["sparse", "dense", "sparse", "sparse"]),
        ("kimilinear", "linear_attn_config", {**KIMI["linear_attn_config"], "num_heads": 2}),
        ("kimilinear", "linear_attn_config", {**KIMI["linear_attn_config"], "gate_lower_bound": 2}),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    name: str, key: str, value: object, tmp_path: Path
) -> None:
    made(name).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    named = "num_heads|gate_lower_bound" if key == "linear_attn_config" else key
    with pytest.raises(UnsupportedError, match=named):
        HuggingFaceDirectory.open(tmp_path)
