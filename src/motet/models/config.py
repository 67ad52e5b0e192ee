"""What a model is: sizes, scales and rotary settings, read from the file's keys.

What a family has beyond this stands beside it.
"""

import math
from dataclasses import dataclass, field

from motet.errors import ModelFileError
from motet.models.keys import MAX_CONTEXT, MAX_HEAD_WIDTH, MAX_HEADS, MAX_WIDTH, Keys
from motet.models.rope import RopeConfig, read_rope
from motet.spec import POOLINGS

RMS_EPS, LAYER_EPS = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
"""Keys of a norm's epsilon."""
MAX_LAYERS = 1024
_MAX_EXPERTS = 1024


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every model has. Sizes are counts of channels, lengths are in tokens."""

    architecture: str
    n_layers: int
    d_model: int
    n_vocab: int
    context_length: int
    """The length it was trained for."""
    norm_eps: float
    n_experts: int = 0
    """Feed-forward networks that a mixture chooses from; 0 where the model has none."""
    n_experts_used: int = 0
    """How many of them each token goes to."""
    pooling: str = "none"
    """What the file says that becomes of a sequence's states: one of ``spec.POOLINGS``."""
    decoder_start: int | None = None
    """The token that what an encoder-decoder writes begins with; None for other models."""
    labels: tuple[str, ...] = ()
    """What a classifier's numbers stand for, where the file says."""
    draft_layers: int = 0
    """Layers after the ``n_layers``, made to draft tokens; they are not run."""

    @property
    def positional(self) -> str:
        """How attention knows where tokens stand.

        "rotary" and "alibi", by their distance; "learned", by a vector added for each position; or
        "none".
        """
        return "none"


@dataclass(frozen=True, kw_only=True)
class RotaryConfig(Config):
    """A model whose attention knows positions by rotary embedding."""

    head_dim: int
    """Channels of a head's query and key."""
    rope: RopeConfig

    @property
    def positional(self) -> str:
        return "rotary"


@dataclass(frozen=True, kw_only=True)
class HeadsConfig(Config):
    """A model whose layers attend, all or some of them, with queries of the same sizes."""

    n_heads: int
    head_dim: int
    value_dim: int
    attention_scale: float
    """Scores are query · key times this."""
    d_ff: int


@dataclass(frozen=True, kw_only=True)
class Scales:
    """What Granite multiplies by (IBM 2024, Granite 3.0), beside the scale of scores."""

    embedding: float = 1.0
    residual: float = 1.0
    """Of what each layer adds."""
    logit: float = 1.0
    """Logits are divided by it."""


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(HeadsConfig, RotaryConfig):
    """A decoder whose every layer attends, with the same sizes."""

    n_kv_heads: int
    sliding: tuple[bool, ...]
    """Which layers see only the last ``window`` tokens."""
    window: int = 0
    """Tokens that a sliding layer sees, the query's own included; 0 where none slides."""
    sliding_rope: RopeConfig | None = None
    """The rotary embedding of sliding layers where it differs from ``rope``."""
    attention_softcap: float = 0.0
    """Scores are capped to ± this; 0 for none."""
    logit_softcap: float = 0.0
    """Logits are capped to ± this; 0 for none."""
    scales: Scales = field(default_factory=Scales)


def read_sizes(
    keys: Keys,
    n_vocab: int,
    *,
    eps: str = RMS_EPS,
    experts: bool = False,
    causal: bool = True,
    drafts: bool = False,
) -> Config:
    """The keys that every family has.

    ``n_vocab``: rows of the embedding. ``eps``: the key of the norms' epsilon. ``experts``: whether
    the family has mixtures of experts; otherwise a file that asks for one is refused. ``causal``:
    whether its tokens see those before them alone. ``drafts``: whether its last layers may be such
    that draft tokens.
    """
    if keys.integer("vocab_size", 1, MAX_CONTEXT, n_vocab) != n_vocab:
        raise ModelFileError(
            f"{keys.key('vocab_size')} is {keys.take('vocab_size')}, but token_embd.weight has "
            f"{n_vocab} rows"
        )
    keys.only("attention.causal", causal, f"attention in {'both directions' if causal else 'one'}")
    n_experts = keys.integer("expert_count", 0, _MAX_EXPERTS, 0) if experts else 0
    if not n_experts:
        keys.only("expert_count", 0, "a mixture of experts")
        keys.only("expert_used_count", 0, "a mixture of experts")
    n_layers = keys.integer("block_count", 1, MAX_LAYERS)
    draft_layers = keys.integer("nextn_predict_layers", 0, n_layers - 1, 0) if drafts else 0
    return Config(
        architecture=keys.architecture,
        n_layers=n_layers - draft_layers,
        d_model=keys.integer("embedding_length", 1, MAX_WIDTH),
        n_vocab=n_vocab,
        context_length=keys.integer("context_length", 1, MAX_CONTEXT),
        norm_eps=keys.positive(eps),
        n_experts=n_experts,
        n_experts_used=keys.integer("expert_used_count", 1, n_experts) if n_experts else 0,
        pooling=POOLINGS[keys.integer("pooling_type", 0, len(POOLINGS) - 1, 0)],
        labels=keys.texts("classifier.output_labels"),
        draft_layers=draft_layers,
    )


def read_heads(keys: Keys, sizes: Config, *, d_ff: int | None = None) -> HeadsConfig:
    """The keys of layers that attend, and of their feed-forward networks.

    ``d_ff``: of networks whose widths differ, the greatest.
    A key and a value of one head have d_model / n_heads channels where no key says otherwise.
    """
    n_heads = keys.integer("attention.head_count", 1, MAX_HEADS)
    if not keys.has("attention.key_length") and sizes.d_model % n_heads:
        raise ModelFileError(
            f"{keys.key('embedding_length')} is {sizes.d_model}, not a multiple of "
            f"{keys.key('attention.head_count')}, {n_heads}",
            hint=f"or the file should give {keys.key('attention.key_length')}",
        )
    width = max(sizes.d_model // n_heads, 1)
    head_dim = keys.integer("attention.key_length", 1, MAX_HEAD_WIDTH, width)
    return HeadsConfig(
        **vars(sizes),
        n_heads=n_heads,
        head_dim=head_dim,
        value_dim=keys.integer("attention.value_length", 1, MAX_HEAD_WIDTH, head_dim),
        attention_scale=1 / math.sqrt(head_dim),
        d_ff=keys.integer("feed_forward_length", 1, MAX_WIDTH) if d_ff is None else d_ff,
    )


def read_attention(
    keys: Keys,
    n_vocab: int,
    *,
    default_rope_base: float | None = 10000.0,
    eps: str = RMS_EPS,
    experts: bool = False,
    causal: bool = True,
    drafts: bool = False,
) -> AttentionConfig:
    """The keys of a decoder whose every layer attends, without sliding layers or caps.

    ``n_vocab``: rows of the embedding. ``default_rope_base``: None where the file has to say.
    ``eps``, ``experts``, ``causal``, ``drafts``: as for ``read_sizes``.
    """
    sizes = read_sizes(keys, n_vocab, eps=eps, experts=experts, causal=causal, drafts=drafts)
    heads = read_heads(keys, sizes)
    return AttentionConfig(
        **vars(heads),
        n_kv_heads=read_kv_heads(keys, heads.n_heads),
        rope=read_rope(keys, heads.head_dim, default_rope_base),
        sliding=(False,) * heads.n_layers,
    )


def read_scales(keys: Keys) -> Scales:
    """Granite's keys; each is 1 where the file lacks it."""
    return Scales(
        embedding=keys.positive("embedding_scale", 1.0),
        residual=keys.positive("residual_scale", 1.0),
        logit=keys.positive("logit_scale", 1.0),
    )


def read_kv_heads(keys: Keys, n_heads: int) -> int:
    """Heads of keys and values, each for as many heads of queries."""
    n_kv_heads = keys.integer("attention.head_count_kv", 1, MAX_WIDTH, n_heads)
    keys.divides("attention.head_count_kv", n_kv_heads, "attention.head_count", n_heads)
    return n_kv_heads


def read_kv_heads_by_layer(keys: Keys, heads: HeadsConfig, *, least: int = 0) -> tuple[int, ...]:
    """Heads of keys and values of each layer, 0 where it has no attention."""
    in_file = heads.n_layers + heads.draft_layers
    kv_heads = keys.integers("attention.head_count_kv", in_file, least, heads.n_heads)
    for count in filter(None, kv_heads):
        keys.divides("attention.head_count_kv", count, "attention.head_count", heads.n_heads)
    return kv_heads[: heads.n_layers]


def read_sliding(
    keys: Keys, n_layers: int, default_period: int, *, global_first: bool = False
) -> tuple[bool, ...]:
    """Which layers slide: ``attention.sliding_window_pattern``, a flag a layer or a period p.

    With a period every p-th layer sees everything: layer i slides unless (i + 1) % p == 0, or with
    ``global_first`` unless i % p == 0.
    """
    name = "attention.sliding_window_pattern"
    if isinstance(keys.take(name, default_period), list):
        return keys.flags(name, n_layers)
    period = keys.integer(name, 0, MAX_LAYERS, default_period)
    first = 0 if global_first else 1
    return tuple(period == 0 or (i + first) % period != 0 for i in range(n_layers))
