"""Settings of RWKV-6."""

from dataclasses import dataclass

from motet.errors import ModelFileError
from motet.models.config import MAX_WIDTH, Config, read_sizes, refuse_experts
from motet.models.keys import Keys
from motet.spec import LayerSpec, Recurrent


@dataclass(frozen=True, kw_only=True)
class Rwkv6Config(Config):
    """RWKV-6's sizes, in channels."""

    head_size: int
    d_ff: int
    mix_rank: int
    """Of the low-rank matrices that say how much of the token before each channel takes."""
    decay_rank: int
    """Of the low-rank matrices that say how fast each channel forgets."""
    rescale_every: int
    """The residual is halved after every so many layers, to stay within F16; 0 for never. The
    file's output matrices are divided accordingly."""

    @property
    def n_heads(self) -> int:
        """Heads of the state."""
        return self.d_model // self.head_size

    def layer_specs(self) -> tuple[LayerSpec, ...]:
        """What each layer remembers: the inputs of both mixes one token ago, and its state."""
        last = (self.d_model,)
        state = (self.n_heads, self.head_size, self.head_size)
        return (Recurrent((last, last, state)),) * self.n_layers


def read_rwkv6(keys: Keys, n_vocab: int) -> Rwkv6Config:
    """The settings in a file whose embedding has ``n_vocab`` rows."""
    refuse_experts(keys)
    # llama.cpp wants the key; the number of heads follows from their size.
    keys.only("attention.head_count", 0, "attention heads, which it does not have")
    keys.only("token_shift_count", 2, "another number of token shifts a layer")
    sizes = read_sizes(keys, n_vocab, "attention.layer_norm_epsilon")
    head_size = keys.integer("wkv.head_size", 1, MAX_WIDTH)
    if sizes.d_model % head_size:
        raise ModelFileError(
            f"{keys.key('embedding_length')} is {sizes.d_model}, not a multiple of "
            f"{keys.key('wkv.head_size')}, {head_size}"
        )
    return Rwkv6Config(
        **vars(sizes),
        head_size=head_size,
        d_ff=keys.integer("feed_forward_length", 1, MAX_WIDTH),
        mix_rank=keys.integer("time_mix_extra_dim", 1, MAX_WIDTH),
        decay_rank=keys.integer("time_decay_extra_dim", 1, MAX_WIDTH),
        rescale_every=keys.integer("rescale_every_n_layers", 0, MAX_WIDTH, 0),
    )
