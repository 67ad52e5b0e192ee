"""Gemma 4 as transformers saves and runs it, at other shapes than goldens'."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet.errors import UnsupportedError
from motet.opening import open_model
from tests.huggingface.sources import logits
from tests.parity.common import KERNELS, tolerance

pytest.importorskip("torch", reason="needs torch, the oracle")
pytest.importorskip("transformers", reason="needs transformers, the oracle")

import torch

from tests.huggingface.test_live import TOKENS, computed, filled, keys, transformers

SLIDES, SEES = "sliding_attention", "full_attention"
TEXT: dict[str, Any] = {
    "vocab_size": 48,
    "vocab_size_per_layer_input": 48,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 16,
    "max_position_embeddings": 300,
    "sliding_window": 20,
    "hidden_size_per_layer_input": 0,
    "layer_types": [SLIDES, SEES, SLIDES, SEES],
    "num_hidden_layers": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
E4B: dict[str, Any] = {
    "hidden_size_per_layer_input": 16,
    "layer_types": [SLIDES, SEES, SLIDES, SLIDES, SEES],
    "num_hidden_layers": 5,
    "num_kv_shared_layers": 2,
    "final_logit_softcapping": 30.0,
}
EXPERTS: dict[str, Any] = {
    "enable_moe_block": True,
    "num_experts": 6,
    "top_k_experts": 3,
    "moe_intermediate_size": 16,
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
}
CASES: dict[str, dict[str, Any]] = {
    "E4B": E4B,
    "E2B": E4B | {"use_double_wide_mlp": True},
    "most layers share": E4B | {"num_kv_shared_layers": 3},
    "31B": {"attention_k_eq_v": True, "num_global_key_value_heads": 1},
    "26B": EXPERTS | {"tie_word_embeddings": False},
    "all at once": EXPERTS | E4B,
    "a window longer than the text": {"sliding_window": 200},
}


def made(kind: str, config: Any) -> Any:
    """A random model; its layers' scalars are buffers."""
    model = filled(getattr(transformers, f"{kind}")(config))
    torch.manual_seed(4)
    for name, values in model.named_buffers():
        if name.endswith("layer_scalar"):
            values.copy_((0.5 + torch.rand(1)).bfloat16())
    return model


@pytest.mark.parametrize("name", CASES)
def test_logits(name: str, tmp_path: Path) -> None:
    config = transformers.Gemma4TextConfig(**TEXT | CASES[name], attn_implementation="eager")
    model = made("Gemma4ForCausalLM", config)
    model.save_pretrained(tmp_path)
    theirs = computed(model).logits[0].numpy()
    for kernels in KERNELS.values():
        ours = logits(tmp_path, kernels, TOKENS)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance("gemma4"))
    new = keys(tmp_path)
    as_published(tmp_path, TEXT | CASES[name])
    assert keys(tmp_path) == new


def as_published(folder: Path, options: dict[str, Any]) -> None:
    """Rewrite config.json as it was published in April 2026."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("per_layer_config")
    config["global_head_dim"] = options["global_head_dim"]
    config["num_global_key_value_heads"] = options.get("num_global_key_value_heads")
    if config["enable_moe_block"]:
        config["expert_intermediate_size"] = config.pop("moe_intermediate_size")
    path.write_text(json.dumps(config))


def test_the_text_part_of_a_model_that_sees_and_hears(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "head_dim": 4}
    vision |= {"num_attention_heads": 2, "num_key_value_heads": 2, "position_embedding_size": 16}
    audio = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    audio |= {"output_proj_dims": 8, "subsampling_conv_channels": [4, 2]}
    config = transformers.Gemma4Config(
        text_config=TEXT | E4B, vision_config=vision, audio_config=audio, image_token_id=47
    )
    model = made("Gemma4ForConditionalGeneration", config)
    model.save_pretrained(tmp_path)
    tokens = np.minimum(TOKENS, 40)  # no picture's, and no sound's
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens[None])).logits[0].numpy()
    with caplog.at_level(logging.INFO, "motet"):
        ours = logits(tmp_path, KERNELS["native"], tokens)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance("gemma4"))
    assert "left aside" in caplog.text
    for part in ("vision_tower", "audio_tower", "embed_vision", "embed_audio"):
        assert part in caplog.text


def test_a_model_without_towers(tmp_path: Path) -> None:
    text = TEXT | {"attention_k_eq_v": True, "num_global_key_value_heads": 1}
    config = transformers.Gemma4UnifiedTextConfig(**text, attn_implementation="eager")
    model = made("Gemma4UnifiedForCausalLM", config)
    model.save_pretrained(tmp_path)
    theirs = computed(model).logits[0].numpy()
    ours = logits(tmp_path, KERNELS["native"], TOKENS)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance("gemma4"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention is 'all'"),
        ({"vocab_size_per_layer_input": 40}, "vocab_size_per_layer_input is 40"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"per_layer_config": {"1": {"head_dim": 16}}}, "per_layer_config is"),
        ({"per_layer_config": {"1": {"x": 1}, "4": {"x": 1}}}, "keys that Motet does not know"),
        ({"rope_parameters": None, "hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ({"unknown": 1}, "unknown = 1"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], error: str, tmp_path: Path) -> None:
    config = transformers.Gemma4TextConfig(**TEXT | E4B)
    made("Gemma4ForCausalLM", config).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UnsupportedError, match=error), open_model(tmp_path):
        pass
