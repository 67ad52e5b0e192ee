"""T5, MT5 and UMT5, and their encoders alone."""

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import layer_count
from motet.huggingface.files import Directory
from motet.huggingface.generation import GENERATION
from motet.huggingface.plan import Plan

_GATED = "gated-gelu"


def t5(config: ConfigReader, files: Directory) -> Plan:
    """The ``t5`` and ``t5encoder`` architectures, for model types t5, mt5 and umt5."""
    kind = config.text("model_type")
    alone = any(name.endswith("EncoderModel") for name in config.texts("architectures", default=[]))
    layers, width = layer_count(config, "num_layers"), config.integer("d_kv")
    eps = config.number("layer_norm_epsilon", default=1e-6)
    keys = {
        "context_length": config.integer("n_positions", default=512),
        "embedding_length": config.integer("d_model"),
        "feed_forward_length": config.integer("d_ff"),
        "block_count": layers,
        "attention.head_count": config.integer("num_heads"),
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_epsilon": eps,
        "attention.layer_norm_rms_epsilon": eps,
        "attention.relative_buckets_count": config.integer(
            "relative_attention_num_buckets", default=32
        ),
    }
    config.only("relative_attention_max_distance", 128, "another reach of the biases by distance")
    gated = _is_gated(config, kind)
    config.ignore("scalable_attention", "is_encoder_decoder")
    has_own = config.has("num_decoder_layers")
    decoder = layer_count(config, "num_decoder_layers") if has_own else layers
    embedding = "shared.weight"
    others = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
    same: dict[str, tuple[str, ...]] = {embedding: others}
    # transformers 5 writes whether states are scaled; before, a head that is the embedding said so.
    scaled = config.flag("scale_decoder_outputs", "tie_word_embeddings", default=True)
    scaled = scaled and kind != "mt5"
    unused = [name.replace(".", r"\.") for name in others]
    if alone:
        config.ignore("scale_decoder_outputs")
    elif scaled:
        unused.append(r"lm_head\.weight")
    else:
        same["lm_head.weight"] = (embedding,)
    if not alone:
        keys["decoder_block_count"] = decoder
        keys["decoder_start_token_id"] = _decoder_start(config, files)
    return Plan(
        "t5encoder" if alone else "t5",
        max(layers, decoder),
        keys,
        # A network of the other kind than config.json says is not known.
        renamed=(
            (r"\.wi\.", ".wi, of a network without gates.")
            if gated
            else (r"\.wi_([01])\.", r".wi_\1, of a network with gates."),
        ),
        same=same,
        unused=unused,
    )


def _decoder_start(config: ConfigReader, files: Directory) -> int:
    """The token that a decoder begins with; T5's own habit is the padding token."""
    name = "decoder_start_token_id"
    if not config.has(name):
        generation = ConfigReader(files.json_if_there(GENERATION), files.located(GENERATION))
        if generation.has(name):
            return generation.integer(name)
    return config.integer(name, "pad_token_id", default=0)


def _is_gated(config: ConfigReader, kind: str) -> bool:
    """Whether networks are T5 1.1's, or T5's. Refuses others."""
    name = "feed_forward_proj"
    given = config.text(name, default="relu" if kind == "t5" else _GATED)
    if given not in ("relu", _GATED):
        raise UnsupportedError(
            f"{config.where}: {name} is {shown(given)}",
            hint=f"Motet knows relu and {_GATED}",
        )
    config.only("dense_act_fn", "relu" if given == "relu" else "gelu_new", "another activation")
    config.only("is_gated_act", given == _GATED, f"not what {name} says")
    return given == _GATED
