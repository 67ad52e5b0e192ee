"""Keys of config.json that families share, as GGUF's keys."""

from typing import Any

from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.tensors import part

Keys = dict[str, Any]

LAYERS = "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers"
CONTEXT = (
    *("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_context_length"),
    *("max_sequence_length", "model_max_length"),
)
WIDTH = "hidden_size", "n_embd", "d_model", "model_dim"
HEADS = "num_attention_heads", "n_head", "n_heads", "num_heads"
FULL, SLIDING = "full_attention", "sliding_attention"
UNUSED_BUFFERS = (
    r".*\.rotary_emb\.inv_freq",
    r".*\.attention\.(masked_)?bias",
    r".*\.attn\.(masked_)?bias",
    r".*position_ids",
)
"""Buffers that old checkpoints hold: what they say follows from config.json."""
BARE = (r"^(embed_tokens|layers|norm)\.", r"model.\1.")
"""To rename tensors of a model that was saved without its head."""
SCORE = (r"^score\.", "cls.output.")
"""To rename a decoder's classifier."""
_MAX_LAYERS, _MAX_HEAD = 1024, 1 << 16
_HEADED = "ForCausalLM", "LMHeadModel", "ForConditionalGeneration"
_CLASSIFIER = "ForSequenceClassification"


EXPERTS_IN_ONE = {
    "experts.gate_up_proj": {
        "experts.gate_proj.weight": part(0, 2),
        "experts.up_proj.weight": part(1, 2),
    }
}
"""``Plan.splits`` of experts as transformers 5 holds them: [experts, gate's and up's rows, d]."""
EXPERTS_DOWN = (r"(\.experts\.down_proj)$", r"\1.weight")
"""Of ``Plan.renamed``: their other matrix."""


def layer_count(config: ConfigReader, *names: str) -> int:
    """How many layers there are. Raises ModelFileError for none, or more than any model has."""
    count = config.integer(*(names or LAYERS))
    if not 1 <= count <= _MAX_LAYERS:
        raise config.wrong(names or LAYERS, count, f"a number of layers from 1 to {_MAX_LAYERS}")
    return count


def sizes(config: ConfigReader) -> Keys:
    """Layers, context, width."""
    return {
        "block_count": layer_count(config),
        "context_length": config.integer(*CONTEXT),
        "embedding_length": config.integer(*WIDTH),
    }


def attention(config: ConfigReader, *, eps: tuple[str, ...] = ("rms_norm_eps",)) -> Keys:
    """A decoder of attention and feed-forward layers with RMSNorm, without its rotary embedding."""
    keys = sizes(config)
    keys["feed_forward_length"] = config.integer("intermediate_size", "n_inner", "ffn_dim")
    heads = config.integer(*HEADS)
    keys["attention.head_count"] = heads
    keys["attention.head_count_kv"] = config.integer("num_key_value_heads", default=heads)
    keys["attention.layer_norm_rms_epsilon"] = config.number(*eps)
    head_dim = config.integer("head_dim", default=None)
    if head_dim is not None:
        keys["attention.key_length"] = keys["attention.value_length"] = head_dim
    return keys


def encoder(config: ConfigReader, *, eps: tuple[str, ...] = ("layer_norm_eps",)) -> Keys:
    """An encoder of attention and feed-forward layers with LayerNorm."""
    keys = sizes(config)
    keys["feed_forward_length"] = config.integer("intermediate_size", "n_inner")
    keys["attention.head_count"] = config.integer(*HEADS)
    keys["attention.layer_norm_epsilon"] = config.number(*eps)
    keys["attention.causal"] = False
    return keys


def head_dim(keys: Keys) -> int:
    """Channels of a head."""
    heads = keys["attention.head_count"]
    width = keys["embedding_length"]
    if not heads or (width % heads and "attention.key_length" not in keys):
        raise ModelFileError(f"{width} channels are not {heads} heads")
    channels = keys.get("attention.key_length", width // heads)
    if channels > _MAX_HEAD:
        raise ModelFileError(f"heads of {channels} channels are wider than any model's")
    return channels


def sliding_layers(config: ConfigReader, n_layers: int) -> list[bool] | None:
    """Which layers slide by ``layer_types``; None where the file does not say.

    Raises UnsupportedError for layers of a third kind.
    """
    kinds = config.texts("layer_types", default=None)
    if kinds is None:
        return None
    if len(kinds) != n_layers:
        raise config.wrong(("layer_types",), kinds, f"a kind for each of {n_layers} layers")
    other = next((kind for kind in kinds if kind not in (FULL, SLIDING)), None)
    if other is not None:
        raise UnsupportedError(
            f"{config.where}: layer_types has {shown(other)}",
            hint=f"Motet knows {FULL} and {SLIDING} for this kind of model",
        )
    return [kind == SLIDING for kind in kinds]


def by_layer(
    config: ConfigReader, n_layers: int, attending: tuple[str, ...], name: str = "layer_types"
) -> list[bool]:
    """Which layers attend, where a list says what each is."""
    kinds = config.texts(name)
    if len(kinds) != n_layers:
        raise config.wrong((name,), kinds, f"a kind for each of {n_layers} layers")
    return [kind in attending for kind in kinds]


def all_full(config: ConfigReader, n_layers: int) -> None:
    """Refuse layers that slide, where GGUF cannot say which do."""
    if any(sliding_layers(config, n_layers) or ()):
        raise UnsupportedError(
            f"{config.where}: layer_types has {SLIDING}, which GGUF cannot say of such a model",
            hint="Motet runs such models where every layer sees everything",
        )


def pattern(slides: list[bool], default: int, *, global_first: bool = False) -> Keys:
    """The key of which layers slide: a period, or a flag a layer; none if it is the ``default``.

    See ``models.config.read_sliding``.
    """
    first = 0 if global_first else 1
    for period in (default, *range(1, len(slides) + 1)):
        if slides == [(i + first) % period != 0 for i in range(len(slides))]:
            return {} if period == default else {"attention.sliding_window_pattern": period}
    return {"attention.sliding_window_pattern": slides}


def class_name(config: ConfigReader) -> str:
    """Of transformers, that made the checkpoint; empty where the file does not say."""
    return next(iter(config.texts("architectures", default=[])), "")


def tied(config: ConfigReader, default: bool) -> bool | None:
    """``Plan.tied``. ``default``: of the class."""
    if config.flag("tie_word_embeddings", "tie_embeddings", default=default):
        return True
    name = class_name(config)
    return False if not name or name.endswith(_HEADED) else None


def classifies(config: ConfigReader) -> bool:
    """Whether the model has a classifier of whole texts."""
    return class_name(config).endswith(_CLASSIFIER)


def labels(config: ConfigReader) -> Keys:
    """The keys of a classifier: what its numbers stand for, and that they are what is wanted."""
    named = config.value("id2label", default=None)
    keys: Keys = {"pooling_type": 4}
    if named is not None:
        if not isinstance(named, dict) or not all(isinstance(v, str) for v in named.values()):
            raise config.wrong(("id2label",), named, "names by their numbers")
        if sorted(named) != sorted(map(str, range(len(named)))):
            raise config.wrong(("id2label",), named, "names by numbers from 0 on")
        keys["classifier.output_labels"] = [named[str(i)] for i in range(len(named))]
    return keys
