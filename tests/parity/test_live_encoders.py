"""Fresh random encoders against transformers, where it is installed."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from motet import Batch, Model
from motet.weights.gguf import GGUFFile
from tests.parity.common import KERNELS

torch = pytest.importorskip("torch", reason="needs torch, the oracle")
transformers = pytest.importorskip("transformers", reason="needs transformers, the oracle")

COMMON = {
    "vocab_size": 60,
    "hidden_size": 40,
    "num_hidden_layers": 5,
    "num_attention_heads": 5,
    "intermediate_size": 56,
    "pad_token_id": 0,
}


def bert() -> Any:
    config = transformers.BertConfig(
        **COMMON, max_position_embeddings=150, layer_norm_eps=1e-3, type_vocab_size=3
    )
    return transformers.BertModel(config, add_pooling_layer=False)


def modern_bert() -> Any:
    """Local layers that see 20 tokens to either side, the global one's base far from theirs."""
    config = transformers.ModernBertConfig(
        **COMMON,
        max_position_embeddings=150,
        norm_eps=1e-3,
        local_attention=40,
        global_attn_every_n_layers=3,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        attn_implementation="eager",
    )
    return transformers.ModernBertModel(config)


ARCHITECTURES = {"bert": bert, "modern-bert": modern_bert}


def write_gguf(model: Any, architecture: str, path: Path) -> Path:
    """The model as F32 GGUF with llama.cpp's names and no vocabulary."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tokenizer_model("no_vocab")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(getattr(config, "layer_norm_eps", getattr(config, "norm_eps", 0.0)))
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    arch = gguf.MODEL_ARCH.BERT
    if architecture == "modern-bert":
        arch = gguf.MODEL_ARCH.MODERN_BERT
        writer.add_sliding_window(config.local_attention)
        writer.add_rope_freq_base(160000.0)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for full, p in model.named_parameters():
        tensor = names.get_name(full, try_suffixes=(".weight", ".bias"))
        assert tensor, full
        writer.add_tensor(tensor, np.ascontiguousarray(p.detach().numpy(), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random_model(architecture: str, seed: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """A model whose every weight matters, tokens, and its states of them in float64."""
    torch.manual_seed(seed)
    model = ARCHITECTURES[architecture]().eval().double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(0, 2 * p.shape[-1] ** -0.5)
            if "norm" in name.lower() and name.endswith("weight"):
                p += 1
            p.copy_(p.float())
        tokens = np.random.default_rng(seed).integers(0, COMMON["vocab_size"], 140)
        states = model(input_ids=torch.tensor(tokens[None])).last_hidden_state[0].numpy()
    return model.float(), tokens, states


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_and_vectors(architecture: str, seed: int, tmp_path: Path) -> None:
    theirs, tokens, states = random_model(architecture, seed)
    path = write_gguf(theirs, architecture, tmp_path / "m.gguf")
    batch = Batch()
    batch.extend(tokens, 0, logits="all")
    for kernels in KERNELS.values():
        with GGUFFile.open(path) as file:
            model = Model(file, kernels())
        hidden = model.context(pooling="none").encode(batch).hidden
        assert hidden is not None
        np.testing.assert_allclose(hidden, states, rtol=0, atol=1e-4)
        pooled = model.context().encode(batch).pooled[0]
        np.testing.assert_allclose(pooled, states.mean(axis=0), rtol=0, atol=2e-5)
