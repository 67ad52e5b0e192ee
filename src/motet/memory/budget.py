"""What caches take, and how much they may take unless the caller says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from motet.kernels import PAGE, Kernels
from motet.machine import available_memory
from motet.memory.kv_cache import kept_tokens
from motet.memory.recurrent import state_bytes
from motet.spec import (
    AttentionSpec,
    CrossAttention,
    FullAttention,
    LayerCaches,
    Recurrent,
    SlidingAttention,
    attention_specs,
)

_UNKNOWN = 1 << 50
"""Where the system does not say how much memory is left: as good as no limit."""


def default_kv_bytes() -> int:
    """Three quarters of the memory that is left, by the machine, its control group or its limits.

    The rest is for activations, for logits, and for other processes.
    """
    available = available_memory()
    return _UNKNOWN if available is None else available // 4 * 3


def default_checkpoint_bytes(kv_bytes: int) -> int:
    """An eighth of what caches may take."""
    return kv_bytes // 8


@dataclass(frozen=True)
class ContextMemory:
    """The caches of one sequence of ``tokens`` tokens: ``total`` bytes.

    ``constant`` of them are recurrent states, which do not grow with the sequence; ``per_token``
    is what each further token adds once every sliding window is full. ``attending``: the layers,
    from 0, that have a KV cache. In ``sliding_layers`` of them it holds a window alone, of
    ``window`` tokens (the widest one, if windows differ).
    """

    tokens: int
    kv_type: str
    total: int
    constant: int
    per_token: int
    attending: list[int]
    sliding_layers: int
    window: int
    encoded: int
    """Bytes of the total that are an encoder's output as the decoder's layers see it, of as many
    tokens."""


def context_memory(
    layers: Sequence[LayerCaches], tokens: int, kv_type: str, kernels: Kernels
) -> ContextMemory:
    """KV caches, in whole pages of ``PAGE`` tokens, and recurrent states of one sequence.

    ``layers``: the caches of each layer.
    """
    specs = [spec for layer in layers for spec in layer]
    constant = sum(state_bytes(spec) for spec in specs if isinstance(spec, Recurrent))
    encoded = -(-tokens // PAGE) * sum(
        kernels.page_bytes(spec.kv_heads, spec.head_dim, spec.value_dim, kv_type)
        for spec in specs
        if isinstance(spec, CrossAttention)
    )
    total, per_token = constant + encoded, 0
    attention = attention_specs(layers)
    for spec, count in Counter(attention).items():
        sizes = spec.kv_heads, spec.head_dim, spec.value_dim
        page = count * kernels.page_bytes(*sizes, kv_type)
        total += page * _pages(spec, tokens)
        per_token += page // PAGE if isinstance(spec, FullAttention) else 0
    windows = [spec.window for spec in attention if isinstance(spec, SlidingAttention)]
    attending = [i for i, layer in enumerate(layers) if attention_specs([layer])]
    return ContextMemory(
        tokens,
        kv_type,
        total,
        constant,
        per_token,
        attending,
        len(windows),
        max(windows, default=0),
        encoded,
    )


def _pages(spec: AttentionSpec, tokens: int) -> int:
    """Pages that hold what a layer keeps of ``tokens`` tokens, as Memory does."""
    pages = -(-tokens // PAGE)
    if isinstance(spec, SlidingAttention):
        pages -= max(tokens - kept_tokens(spec.window), 0) // PAGE
    return pages
