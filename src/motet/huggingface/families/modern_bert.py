"""ModernBERT."""

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import (
    FULL,
    SLIDING,
    Keys,
    classifies,
    encoder,
    pattern,
    sliding_layers,
)
from motet.huggingface.families.rotary import rope_base, rope_of
from motet.huggingface.families.sentence import vectors
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan

_KINDS = FULL, SLIDING
_POOLINGS = {"mean": 1, "cls": 2}


def modern_bert(config: ConfigReader, files: Directory) -> Plan:
    """The ``modern-bert`` architecture."""
    config.assume(norm_eps=1e-5, hidden_activation="gelu", local_attention=128)
    config.assume(global_rope_theta=160000.0, local_rope_theta=10000.0, classifier_pooling="cls")
    keys = encoder(config, eps=("norm_eps",))
    keys["attention.layer_norm_rms_epsilon"] = keys["attention.layer_norm_epsilon"]
    full = rope_of(config, FULL, kinds=_KINDS, theta=("global_rope_theta",))
    local = rope_of(config, SLIDING, kinds=_KINDS, theta=("local_rope_theta",))
    keys |= rope_base(full, "rope.freq_base") | rope_base(local, "rope.freq_base_swa")
    keys["rope.scaling.type"] = "none"
    keys["attention.sliding_window"] = config.integer("local_attention")
    keys |= _sliding(config, keys["block_count"])
    keys["vocab_size"] = config.integer("vocab_size")
    keys["hidden_activation"] = config.text("hidden_activation")
    keys |= _classifier(config) | vectors(config, files)
    # Biases show in the tensors; norm_eps is the epsilon of every norm.
    config.ignore("attention_bias", "mlp_bias", "norm_bias", "decoder_bias", "classifier_bias")
    config.ignore("layer_norm_eps", "position_embedding_type", "deterministic_flash_attn")
    config.ignore("reference_compile", "repad_logits_with_grad", "initializer_cutoff_factor")
    config.ignore("sparse_prediction", "sparse_pred_ignore_index")
    heads = () if classifies(config) else (r"(head|decoder|classifier)\..*",)
    return Plan(
        "modern-bert",
        keys["block_count"],
        keys,
        renamed=(
            (r"^model\.", ""),
            (r"^classifier\.(weight|bias)$", r"classifier.out_proj.\1"),
        ),
        unused=heads,  # those that guess words in the middle of a text
    )


def _sliding(config: ConfigReader, n_layers: int) -> Keys:
    period = config.integer("global_attn_every_n_layers", default=3)
    by_period = [period > 0 and i % period != 0 for i in range(n_layers)]
    slides = sliding_layers(config, n_layers) or by_period
    if config.has("global_attn_every_n_layers") and slides != by_period:
        raise config.wrong(("global_attn_every_n_layers",), period, "what layer_types says")
    return {"attention.sliding_window_pattern": 3} | pattern(slides, 3, global_first=True)


def _classifier(config: ConfigReader) -> Keys:
    """GGUF has one activation for all."""
    kind = config.text("classifier_pooling")
    if kind not in _POOLINGS:
        raise UnsupportedError(f"{config.where}: classifier_pooling is {shown(kind)}")
    activation = config.text("classifier_activation", default="gelu")
    if not classifies(config):
        return {"classifier.pooling_type": 2} if kind == "cls" else {}
    if kind != "cls":
        raise UnsupportedError(
            f"{config.where}: classifier_pooling is {shown(kind)}",
            hint="Motet runs classifiers of the first token",
        )
    if activation != config.text("hidden_activation"):
        raise UnsupportedError(
            f"{config.where}: classifier_activation is {shown(activation)}, not hidden_activation's"
        )
    return {"classifier.pooling_type": 2}
