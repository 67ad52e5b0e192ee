"""Settings of the families that carry a state from token to token: Mamba, Mamba-2 and Jamba."""

import math
from dataclasses import dataclass, replace

from motet.errors import ModelFileError
from motet.models.config import MAX_WIDTH, Config, read_head_dims, read_sizes, refuse_experts
from motet.models.keys import Keys
from motet.spec import FullAttention, LayerSpec, Recurrent


@dataclass(frozen=True, kw_only=True)
class ScanConfig(Config):
    """What both Mambas have: a convolution over the last tokens, and a scan. Sizes in channels."""

    d_inner: int
    d_state: int
    d_conv: int
    """Tokens that the convolution sees, the newest included."""


@dataclass(frozen=True, kw_only=True)
class MambaConfig(ScanConfig):
    """Mamba-1's sizes."""

    dt_rank: int
    dt_b_c_norm: bool = False
    """Whether time step, B and C are normalised, without weights (Falcon-Mamba)."""

    @property
    def state(self) -> Recurrent:
        """What a Mamba layer remembers: the convolution's last inputs, and the scan's state."""
        return Recurrent(((self.d_conv - 1, self.d_inner), (self.d_state, self.d_inner)))

    def layer_specs(self) -> tuple[LayerSpec, ...]:
        """What each layer remembers."""
        return (self.state,) * self.n_layers


@dataclass(frozen=True, kw_only=True)
class JambaConfig(MambaConfig):
    """Mamba layers and attention layers mixed, each followed by a feed-forward network."""

    n_heads: int
    kv_heads: tuple[int, ...]
    """Key and value heads of each layer; 0 makes it a Mamba layer."""
    head_dim: int
    value_dim: int
    attention_scale: float
    """Scores are query · key times this."""
    d_ff: int

    def layer_specs(self) -> tuple[LayerSpec, ...]:
        """What each layer remembers."""
        return tuple(
            FullAttention(heads, self.head_dim, self.value_dim) if heads else self.state
            for heads in self.kv_heads
        )


@dataclass(frozen=True, kw_only=True)
class Mamba2Config(ScanConfig):
    """Mamba-2's sizes."""

    n_heads: int
    head_dim: int
    n_groups: int
    """Heads of a group share B and C."""

    @property
    def d_convolved(self) -> int:
        """Channels of the convolution: x, B and C."""
        return self.d_inner + 2 * self.n_groups * self.d_state

    def layer_specs(self) -> tuple[LayerSpec, ...]:
        """What each layer remembers: the convolution's last inputs, and the scan's state."""
        tail = (self.d_conv - 1, self.d_convolved)
        return (Recurrent((tail, (self.n_heads, self.d_state, self.head_dim))),) * self.n_layers


def read_mamba(keys: Keys, n_vocab: int) -> MambaConfig:
    """The settings of an architecture that consists of Mamba-1 layers."""
    return MambaConfig(
        **vars(_read_scan(keys, _read_alone(keys, n_vocab))),
        dt_rank=keys.integer("ssm.time_step_rank", 1, MAX_WIDTH),
        dt_b_c_norm=keys.flag("ssm.dt_b_c_rms", False),
    )


def read_mamba2(keys: Keys, n_vocab: int) -> Mamba2Config:
    """The settings of an architecture that consists of Mamba-2 layers."""
    sizes = _read_scan(keys, _read_alone(keys, n_vocab))
    # The name is Mamba-1's; here it counts heads.
    n_heads = keys.integer("ssm.time_step_rank", 1, MAX_WIDTH)
    n_groups = keys.integer("ssm.group_count", 1, MAX_WIDTH)
    _divides(keys, "ssm.time_step_rank", n_heads, "ssm.inner_size", sizes.d_inner)
    _divides(keys, "ssm.group_count", n_groups, "ssm.time_step_rank", n_heads)
    return Mamba2Config(
        **vars(sizes),
        n_heads=n_heads,
        head_dim=sizes.d_inner // n_heads,
        n_groups=n_groups,
    )


def read_jamba(keys: Keys, n_vocab: int) -> JambaConfig:
    """The settings of Jamba; which layers are mixtures of experts is seen from the tensors."""
    n_experts = keys.integer("expert_count", 0, MAX_WIDTH, 0)
    used = keys.integer("expert_used_count", 1, n_experts) if n_experts else 0
    if not n_experts:
        refuse_experts(keys)
    sizes = replace(read_sizes(keys, n_vocab), n_experts=n_experts, n_experts_used=used)
    n_heads = keys.integer("attention.head_count", 1, MAX_WIDTH)
    kv_heads = keys.integers("attention.head_count_kv", sizes.n_layers, 0, n_heads)
    for heads in filter(None, kv_heads):
        _divides(keys, "attention.head_count_kv", heads, "attention.head_count", n_heads)
    head_dim, value_dim = read_head_dims(keys, sizes.d_model, n_heads)
    return JambaConfig(
        **vars(_read_scan(keys, sizes)),
        dt_rank=keys.integer("ssm.time_step_rank", 1, MAX_WIDTH),
        n_heads=n_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=value_dim,
        attention_scale=1 / math.sqrt(head_dim),
        d_ff=keys.integer("feed_forward_length", 1, MAX_WIDTH),
    )


def _read_alone(keys: Keys, n_vocab: int) -> Config:
    """The sizes of a model without attention and feed-forward networks."""
    for name in ("attention.head_count", "attention.head_count_kv"):
        keys.only(name, 0, "attention heads, which this architecture does not have")
    keys.only("feed_forward_length", 0, "a feed-forward network, which it does not have")
    refuse_experts(keys)
    return read_sizes(keys, n_vocab)


def _read_scan(keys: Keys, sizes: Config) -> ScanConfig:
    return ScanConfig(
        **vars(sizes),
        d_inner=keys.integer("ssm.inner_size", 1, MAX_WIDTH),
        d_state=keys.integer("ssm.state_size", 1, MAX_WIDTH),
        d_conv=keys.integer("ssm.conv_kernel", 2, MAX_WIDTH),
    )


def _divides(keys: Keys, small: str, divisor: int, large: str, number: int) -> None:
    if number % divisor:
        raise ModelFileError(
            f"{keys.key(large)} is {number}, not a multiple of {keys.key(small)}, {divisor}"
        )
