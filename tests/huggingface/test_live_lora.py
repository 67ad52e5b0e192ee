"""Adapters that PEFT wrote, beside PEFT."""

from pathlib import Path

import numpy as np
import pytest

from motet import Model
from motet.conversion.convert import convert
from tests.conversion.test_lora import logits

torch = pytest.importorskip("torch", reason="needs torch")
transformers = pytest.importorskip("transformers", reason="needs transformers")
peft = pytest.importorskip("peft", reason="needs peft")

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
KINDS = {
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {}),
    "gemma2": ("Gemma2", {"head_dim": 8, "query_pre_attn_scalar": 8}),
    "mistral": ("Mistral", {}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rslora", [False, True])
def test_logits_are_pefts(kind: str, rslora: bool, tmp_path: Path) -> None:
    name, more = KINDS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES, **more)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    model.save_pretrained(tmp_path / "base")
    settings = peft.LoraConfig(
        r=4,
        lora_alpha=16,
        target_modules="all-linear",
        init_lora_weights=False,
        use_rslora=rslora,
        rank_pattern={} if rslora else {"q_proj": 6},
    )
    adapted = peft.get_peft_model(model, settings)
    adapted.save_pretrained(tmp_path / "lora")
    with torch.no_grad():
        theirs = adapted(torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])).logits[0].numpy()
    ours = logits(Model.load(tmp_path / "base", lora=tmp_path / "lora"))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    made = convert(tmp_path / "lora", tmp_path / "lora.gguf", "f32", base=tmp_path / "base")
    assert np.array_equal(ours, logits(Model.load(tmp_path / "base", lora=made.files)))
