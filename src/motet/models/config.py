"""What a model is: sizes, scales and rotary settings, read from the file's keys."""

import math
from dataclasses import dataclass
from typing import ClassVar

from motet.errors import ModelFileError, UnsupportedError
from motet.models.keys import Keys
from motet.spec import FullAttention, LayerSpec, SlidingAttention

_MAX_LAYERS = 4096
MAX_WIDTH = 1 << 24
"""Channels, heads and the like."""
_MAX_CONTEXT = (1 << 31) - 1
"""Positions are int32."""


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding of some layers: base, rotated channels, and how they are stretched."""

    base: float
    dimension: int
    """Channels of a head that are rotated."""
    scaling: str = "none"
    """"none", "linear" (Chen et al. 2023, arXiv 2306.15595) or "yarn" (Peng et al. 2023,
    arXiv 2309.00071). llama3 scaling comes as a tensor of divisors, ``rope_freqs.weight``."""
    factor: float = 1.0
    """By how much the trained length is stretched."""
    original_context: int = 0
    """Trained length before stretching, in tokens (yarn)."""
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    """Rotations over the original context above which a channel keeps its frequency, and below
    which it is wholly interpolated (yarn)."""
    magnitude: float = 1.0
    """Cosine and sine are multiplied by this (yarn's attention factor)."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every model has. Sizes are counts of channels, lengths are in tokens."""

    positional: ClassVar[str] = "none"
    """How attention knows where tokens stand: "rotary", by their distance; or "none"."""
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

    def layer_specs(self) -> tuple[LayerSpec, ...]:
        """What each layer remembers."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(Config):
    """A decoder whose every layer attends, with the same sizes."""

    positional: ClassVar[str] = "rotary"
    n_heads: int
    n_kv_heads: int
    head_dim: int
    value_dim: int
    d_ff: int
    attention_scale: float
    """Scores are query · key times this."""
    rope: RopeConfig
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

    def layer_specs(self) -> tuple[LayerSpec, ...]:
        """What each layer remembers."""
        sizes = (self.n_kv_heads, self.head_dim, self.value_dim)
        return tuple(
            SlidingAttention(*sizes, self.window) if slides else FullAttention(*sizes)
            for slides in self.sliding
        )


def read_sizes(
    keys: Keys, n_vocab: int, norm_eps: str = "attention.layer_norm_rms_epsilon"
) -> Config:
    """The keys that every family has. ``n_vocab``: rows of the embedding; ``norm_eps``: its key."""
    if keys.integer("vocab_size", 1, _MAX_CONTEXT, n_vocab) != n_vocab:
        raise ModelFileError(
            f"{keys.key('vocab_size')} is {keys.take('vocab_size')}, but token_embd.weight has "
            f"{n_vocab} rows"
        )
    keys.only("attention.causal", True, "attention in both directions")
    keys.only("pooling_type", 0, "a model of embeddings, not of text to come")
    return Config(
        architecture=keys.architecture,
        n_layers=keys.integer("block_count", 1, _MAX_LAYERS),
        d_model=keys.integer("embedding_length", 1, MAX_WIDTH),
        n_vocab=n_vocab,
        context_length=keys.integer("context_length", 1, _MAX_CONTEXT),
        norm_eps=keys.positive(norm_eps),
    )


def refuse_experts(keys: Keys) -> None:
    """For families without them: no mixture of experts."""
    keys.only("expert_count", 0, "a mixture of experts")
    keys.only("expert_used_count", 0, "a mixture of experts")


def read_head_dims(keys: Keys, d_model: int, n_heads: int) -> tuple[int, int]:
    """Channels of a key and of a value in one head; without keys for them, d_model / n_heads."""
    if not keys.has("attention.key_length") and d_model % n_heads:
        raise ModelFileError(
            f"{keys.key('embedding_length')} is {d_model}, not a multiple of "
            f"{keys.key('attention.head_count')}, {n_heads}",
            hint=f"or the file should give {keys.key('attention.key_length')}",
        )
    head_dim = keys.integer("attention.key_length", 1, MAX_WIDTH, max(d_model // n_heads, 1))
    return head_dim, keys.integer("attention.value_length", 1, MAX_WIDTH, head_dim)


def read_common(
    keys: Keys, n_vocab: int, default_rope_base: float | None = 10000.0
) -> AttentionConfig:
    """The keys of an attention family, into a config without sliding layers or caps.

    ``n_vocab``: rows of the embedding. ``default_rope_base``: None where the file has to say.
    """
    sizes = read_sizes(keys, n_vocab)
    refuse_experts(keys)
    n_heads = keys.integer("attention.head_count", 1, MAX_WIDTH)
    n_kv_heads = keys.integer("attention.head_count_kv", 1, MAX_WIDTH, n_heads)
    if n_heads % n_kv_heads:
        raise ModelFileError(
            f"{keys.key('attention.head_count')} is {n_heads}, not a multiple of "
            f"{keys.key('attention.head_count_kv')}, {n_kv_heads}"
        )
    head_dim, value_dim = read_head_dims(keys, sizes.d_model, n_heads)
    return AttentionConfig(
        **vars(sizes),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        value_dim=value_dim,
        d_ff=keys.integer("feed_forward_length", 1, MAX_WIDTH),
        attention_scale=1 / math.sqrt(head_dim),
        rope=read_rope(keys, head_dim, default_rope_base),
        sliding=(False,) * sizes.n_layers,
    )


def read_rope(keys: Keys, head_dim: int, default_base: float | None) -> RopeConfig:
    """The ``rope.*`` keys. An absent type with a factor means linear, as in llama.cpp."""
    dimension = keys.integer("rope.dimension_count", 2, head_dim + head_dim % 2, head_dim)
    if dimension % 2 or dimension > head_dim:
        raise keys.wrong("rope.dimension_count", dimension, f"an even number up to {head_dim}")
    base = keys.positive("rope.freq_base", default_base)
    if base <= 1.0:
        raise keys.wrong("rope.freq_base", base, "a number above 1")
    # The name that files of 2023 have for the factor.
    factor_key = "rope.scaling.factor" if keys.has("rope.scaling.factor") else "rope.scale_linear"
    factor = keys.positive(factor_key, 0.0, or_zero=True) or 1.0  # 0 is llama.cpp's "not scaled"
    # Whether the scaling was in place in training: a record that changes nothing here.
    keys.take("rope.scaling.finetuned", False)
    scaling = keys.text("rope.scaling.type", "linear" if factor != 1.0 else "none")
    extra = keys.positive("rope.scaling.attn_factor", 1.0)
    if scaling == "none" or (scaling == "linear" and factor == 1.0):
        if factor != 1.0:
            raise ModelFileError(
                f"{keys.key('rope.scaling.type')} is 'none', but "
                f"{keys.key(factor_key)} is {factor:g}"
            )
        keys.take("rope.scaling.original_context_length", 0)  # of no scaling
        return RopeConfig(base, dimension, magnitude=extra)
    if scaling == "linear":
        keys.take("rope.scaling.original_context_length", 0)  # linear scaling does not use it
        return RopeConfig(base, dimension, "linear", factor, magnitude=extra)
    if scaling == "yarn":
        return _read_yarn(keys, base, dimension, factor, extra)
    raise UnsupportedError(
        f"{keys.key('rope.scaling.type')} is {scaling!r}", hint="Motet knows none, linear and yarn"
    )


def _read_yarn(keys: Keys, base: float, dimension: int, factor: float, extra: float) -> RopeConfig:
    original = keys.integer("rope.scaling.original_context_length", 1, _MAX_CONTEXT)
    beta_fast = keys.positive("rope.scaling.yarn_beta_fast", 32.0)
    beta_slow = keys.positive("rope.scaling.yarn_beta_slow", 1.0)
    if beta_fast <= beta_slow:
        raise keys.wrong(
            "rope.scaling.yarn_beta_fast",
            beta_fast,
            f"a number above yarn_beta_slow, {beta_slow:g}",
        )
    keys.only("rope.scaling.yarn_ext_factor", 1.0, "interpolation that YaRN does not describe")
    # 0 or absent: the paper's magnitude; 1: none. llama.cpp and transformers agree on the ratio.
    log_multiplier = keys.positive("rope.scaling.yarn_log_multiplier", 0.0, or_zero=True)
    magnitude = _yarn_magnitude(factor, 1.0) / _yarn_magnitude(factor, log_multiplier)
    if keys.has("rope.scaling.yarn_attn_factor"):
        # The converter writes the whole magnitude here and llama.cpp its multiplier; they can be
        # told apart only where both come to the same.
        given = keys.positive("rope.scaling.yarn_attn_factor")
        if not math.isclose(given, magnitude, rel_tol=1e-5):
            raise UnsupportedError(
                f"{keys.key('rope.scaling.yarn_attn_factor')} is {given:g}, and programs disagree "
                "on what it multiplies",
                hint=f"without the key the magnitude is {magnitude:g}",
            )
    return RopeConfig(
        base, dimension, "yarn", factor, original, beta_fast, beta_slow, magnitude * extra
    )


def _yarn_magnitude(factor: float, multiplier: float) -> float:
    """YaRN's attention factor, 0.1 · ln(factor) + 1 (arXiv 2309.00071, eq. 22)."""
    return 0.1 * multiplier * math.log(factor) + 1.0 if factor > 1.0 else 1.0


def read_sliding(keys: Keys, n_layers: int, default_period: int) -> tuple[bool, ...]:
    """Which layers slide: ``attention.sliding_window_pattern``, a flag a layer or a period p.

    With a period every p-th layer sees everything: layer i slides unless (i + 1) % p == 0.
    """
    name = "attention.sliding_window_pattern"
    pattern = keys.take(name, default_period)
    if isinstance(pattern, list):
        if len(pattern) != n_layers or not all(isinstance(flag, bool) for flag in pattern):
            raise keys.wrong(name, pattern, f"a flag for each of {n_layers} layers")
        return tuple(pattern)
    period = keys.integer(name, 0, _MAX_LAYERS, default_period)
    return tuple(period == 0 or (i + 1) % period != 0 for i in range(n_layers))
