"""Recurrent kernels as cases: what a token brings, what a slot holds, how to call the kernel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.kernels.interface_recurrent import Runs
from motet.kernels.rwkv7 import Wkv7Heads


@dataclass(frozen=True)
class Layer:
    """One kernel with its weights."""

    name: str
    widths: tuple[int, ...]
    """Columns of each array that has a row for every token."""
    state: tuple[int, ...]
    """Shape of a slot."""
    call: Callable[..., np.ndarray]
    """call(kernels, rows, states, runs), rows being one array for each of ``widths``."""

    def tokens(self, count: int, seed: int = 0, scale: float = 1.0) -> list[np.ndarray]:
        return [normal(count, w, seed=seed + i, scale=scale) for i, w in enumerate(self.widths)]

    def states(self, slots: int, seed: int = 9) -> np.ndarray:
        return normal(slots, *self.state, seed=seed)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def runs_of(
    order: Sequence[int] | np.ndarray,
    lengths: Sequence[int],
    read: Sequence[int],
    write: Sequence[int],
) -> Runs:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return Runs(*(np.asarray(part, np.int32) for part in (order, starts, read, write)))


def convolution(channels: int, taps: int, bias: bool, activation: str | None) -> Layer:
    weight, offset = normal(channels, taps), normal(channels, seed=1) if bias else None

    def call(kernels: Any, rows: list[np.ndarray], states: np.ndarray, runs: Runs) -> np.ndarray:
        return kernels.causal_conv(rows[0], weight, offset, states, runs, activation)

    name = f"conv-{channels}x{taps}-{activation}"
    return Layer(name, (channels,), (taps - 1, channels), call)


def selective(channels: int, n: int, gated: bool) -> Layer:
    bias, d, a = normal(channels), normal(channels, seed=1), -np.abs(normal(n, channels, seed=2))

    def call(kernels: Any, rows: list[np.ndarray], states: np.ndarray, runs: Runs) -> np.ndarray:
        x, dt, b, c, *z = rows
        return kernels.selective_scan(x, dt, bias, a, b, c, d, states, runs, *z)

    widths = (channels, channels, n, n) + (channels,) * gated
    return Layer(f"mamba-{channels}x{n}{'-z' * gated}", widths, (n, channels), call)


def mamba2(heads: int, groups: int, n: int, width: int) -> Layer:
    bias, d, a = normal(heads), normal(heads, seed=1), -np.abs(normal(heads, seed=2))

    def call(kernels: Any, rows: list[np.ndarray], states: np.ndarray, runs: Runs) -> np.ndarray:
        x, dt, b, c = rows
        return kernels.mamba2_scan(x, dt, bias, a, b, c, d, states, runs)

    widths = (heads * width, heads, groups * n, groups * n)
    return Layer(f"mamba2-{heads}/{groups}-{n}x{width}", widths, (heads, n, width), call)


def delta(
    heads: int, groups: int, n: int, width: int, *, tiled: bool = False, by_channel: bool = False
) -> Layer:
    rates = heads * n if by_channel else heads
    bias, a = normal(rates), -np.abs(normal(heads, seed=2))

    def call(kernels: Any, rows: list[np.ndarray], states: np.ndarray, runs: Runs) -> np.ndarray:
        return kernels.delta_rule(*rows, bias, a, states, runs, eps=1e-6, tiled=tiled)

    widths = (groups * n, groups * n, heads * width, heads, rates)
    kind = "-tiled" * tiled + "-channels" * by_channel
    return Layer(f"delta-{heads}/{groups}-{n}x{width}{kind}", widths, (heads, n, width), call)


def wkv6(heads: int, size: int) -> Layer:
    u = normal(heads, size)

    def call(kernels: Any, rows: list[np.ndarray], states: np.ndarray, runs: Runs) -> np.ndarray:
        return kernels.wkv6(*rows, u, states, runs)

    return Layer(f"wkv6-{heads}x{size}", (heads * size,) * 4, (heads, size, size), call)


def wkv7(heads: int, size: int) -> Layer:
    own = Wkv7Heads(*(normal(heads, size, seed=seed) for seed in range(5)))

    def call(kernels: Any, rows: list[np.ndarray], states: np.ndarray, runs: Runs) -> np.ndarray:
        return kernels.wkv7(*rows, own, 64e-5, states, runs)

    return Layer(f"wkv7-{heads}x{size}", (heads * size,) * 5, (heads, size, size), call)


def shift(channels: int) -> Layer:
    def call(kernels: Any, rows: list[np.ndarray], states: np.ndarray, runs: Runs) -> np.ndarray:
        return kernels.token_shift(rows[0], states, runs)

    return Layer(f"shift-{channels}", (channels,), (channels,), call)


LAYERS = (
    convolution(40, 4, True, "silu"),
    convolution(600, 4, False, None),
    convolution(17, 3, True, None),
    convolution(300, 6, False, "silu"),
    convolution(5, 1, True, "silu"),
    selective(40, 16, True),
    selective(600, 16, False),
    selective(300, 5, True),
    selective(1, 1, False),
    mamba2(4, 1, 16, 64),
    mamba2(4, 2, 9, 40),
    mamba2(3, 3, 128, 8),
    mamba2(17, 1, 7, 33),
    delta(4, 2, 16, 128),
    delta(6, 2, 9, 40, tiled=True),
    delta(2, 1, 5, 150),
    delta(2, 2, 32, 32, by_channel=True),
    delta(1, 1, 1, 1),
    delta(3, 3, 12, 12, by_channel=True),
    delta(4, 2, 16, 70, tiled=True, by_channel=True),
    wkv6(5, 8),
    wkv6(2, 64),
    wkv6(1, 40),
    wkv6(3, 80),
    wkv7(5, 8),
    wkv7(2, 64),
    wkv7(1, 40),
    wkv7(3, 80),
    shift(40),
    shift(600),
)
