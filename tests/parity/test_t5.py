"""Encoder-decoders: the shared random models, and fresh ones against transformers."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from motet import Batch, Model
from motet.weights.gguf import GGUFFile
from tests.parity.common import KERNELS
from tests.shared import SHARED, needs_shared

NEAR: dict[str, Any] = {"rtol": 0, "atol": 3e-4}


def opened(path: Path, kernels: str) -> Model:
    with GGUFFile.open(path) as file:
        file.metadata = {**file.metadata, "tokenizer.ggml.model": "no_vocab"}
        return Model(file, KERNELS[kernels]())


def run(model: Model, text: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The encoder's states of ``text``, and logits of all ``tokens``."""
    context, source, batch = model.context(kv_type="f32"), Batch(), Batch()
    source.extend(text.ravel(), 0, logits="all")
    batch.extend(tokens.ravel(), 0, logits="all")
    hidden = context.encode(source).hidden
    assert hidden is not None
    return hidden, context.decode(batch).logits


@needs_shared
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["t5_gated", "t5_ungated"])
def test_shared(name: str, kernels: str) -> None:
    folder = SHARED / "parity" / name

    def load(what: str) -> np.ndarray:
        return np.load(folder / f"{what}.npy")

    model = opened(folder / "model.gguf", kernels)
    hidden, logits = run(model, load("tokens_encoder"), load("tokens_decoder"))
    np.testing.assert_allclose(hidden, load("encoder_hf").reshape(hidden.shape), **NEAR)
    np.testing.assert_allclose(logits, load("logits_hf").reshape(logits.shape), **NEAR)


SIZES = {
    "vocab_size": 48,
    "d_model": 40,
    "d_kv": 12,
    "d_ff": 56,
    "num_heads": 5,
    "num_layers": 2,
    "num_decoder_layers": 4,
    "layer_norm_epsilon": 1e-3,  # so large that a wrong one shows
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
CASES: dict[str, dict[str, Any]] = {
    "t5": {"feed_forward_proj": "relu", "tie_word_embeddings": True},
    "t5_1_1": {
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "relative_attention_num_buckets": 16,
    },
    "umt5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}


def random_model(name: str) -> Any:
    """A model whose every weight matters."""
    import torch
    import transformers

    kind = "UMT5" if name == "umt5" else "T5"
    config = getattr(transformers, f"{kind}Config")(**SIZES | CASES[name])
    torch.manual_seed(len(name))
    config.tie_word_embeddings = CASES[name]["tie_word_embeddings"]  # which its class forces
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    for half in (model.encoder, model.decoder):  # tied in any case
        half.embed_tokens.weight = model.shared.weight
    with torch.no_grad():
        for full, p in model.named_parameters():
            if "norm" in full:
                p.copy_(1 + 0.3 * torch.randn_like(p))
            elif "relative_attention_bias" in full:
                p.copy_(torch.randn_like(p))
            else:
                scale = 4 if "shared" in full or "lm_head" in full else 1
                p.copy_(scale * torch.randn_like(p) / p.shape[-1] ** 0.5)
    return model


def write_gguf(model: Any, path: Path, *, encoder_alone: bool = False) -> Path:
    """The model as F32 GGUF with llama.cpp's names and no vocabulary."""
    config, name = model.config, "t5encoder" if encoder_alone else "t5"
    writer = gguf.GGUFWriter(path, name)
    writer.add_tokenizer_model("no_vocab")
    writer.add_context_length(512)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    writer.add_key_length(config.d_kv)
    writer.add_value_length(config.d_kv)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.add_relative_attn_buckets_count(config.relative_attention_num_buckets)
    if not encoder_alone:
        writer.add_uint32("t5.decoder_block_count", config.num_decoder_layers)
        writer.add_decoder_start_token_id(config.decoder_start_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5, config.num_decoder_layers)
    for full, p in model.named_parameters():  # what is tied is not listed again
        tensor = names.get_name(full, try_suffixes=(".weight",))
        assert tensor, full
        if not encoder_alone or tensor.startswith(("enc.", "token_embd")):
            writer.add_tensor(tensor, np.ascontiguousarray(p.detach().numpy(), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", CASES)
def test_live(name: str, tmp_path: Path) -> None:
    """Over more tokens than there are distances with a bias of their own."""
    torch = pytest.importorskip("torch", reason="needs torch, the oracle")
    pytest.importorskip("transformers", reason="needs transformers, the oracle")
    theirs, rng = random_model(name), np.random.default_rng(1)
    text, tokens = rng.integers(0, 48, 330), rng.integers(0, 48, 300)
    with torch.no_grad():
        out = theirs(
            input_ids=torch.tensor(text[None]), decoder_input_ids=torch.tensor(tokens[None])
        )
    path = write_gguf(theirs, tmp_path / "m.gguf")
    for kernels in KERNELS:
        hidden, logits = run(opened(path, kernels), text, tokens)
        np.testing.assert_allclose(hidden, out.encoder_last_hidden_state[0].numpy(), **NEAR)
        np.testing.assert_allclose(logits, out.logits[0].numpy(), **NEAR)


def test_an_encoder_alone(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs torch, the oracle")
    pytest.importorskip("transformers", reason="needs transformers, the oracle")
    theirs, text = random_model("t5_1_1"), np.arange(200) % 48
    with torch.no_grad():
        states = theirs.encoder(input_ids=torch.tensor(text[None])).last_hidden_state[0].numpy()
    path = write_gguf(theirs, tmp_path / "m.gguf", encoder_alone=True)
    batch = Batch()
    batch.extend(text, 0, logits="all")
    for kernels in KERNELS:
        model = opened(path, kernels)
        hidden = model.context().encode(batch).hidden
        assert hidden is not None
        np.testing.assert_allclose(hidden, states, **NEAR)
        pooled = model.context(pooling="mean").encode(batch).pooled[0]
        np.testing.assert_allclose(pooled, states.mean(axis=0), **NEAR)
