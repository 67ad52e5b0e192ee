"""The kernels of recurrent layers: part of ``interface.Kernels``, whose words these are, too."""

from typing import NamedTuple, Protocol

from motet.arrays import Float32, Int32
from motet.kernels.rwkv7 import Wkv7Heads


class Runs(NamedTuple):
    """The tokens of a micro-batch sequence by sequence, and the slots of their recurrent states.

    Run r is rows ``order[starts[r]:starts[r + 1]]`` of the activations, in order of position. It
    begins from the state in slot ``read[r]`` and leaves its own in slot ``write[r]``. One that
    reads what the run before it writes goes on from that: so states between tokens are kept.
    """

    order: Int32
    """``[T]``: every row once."""
    starts: Int32
    """``[R + 1]``; no run is empty."""
    read: Int32
    """``[R]``; -1: begin from zeros. Several runs may begin from one slot."""
    write: Int32
    """``[R]``, all different. It may be the run's own ``read``, or the next one's; no other's."""


class RecurrentState(NamedTuple):
    """What one micro-batch reads and writes in one layer's recurrent cache."""

    arrays: tuple[Float32, ...]
    """``[slots, *shape]`` for each of the spec's shapes."""
    runs: Runs


class RecurrentKernels(Protocol):
    """Convolutions and scans, each over runs of tokens and slots of states."""

    def sum_rows(self, x: Float32, states: Float32, runs: Runs) -> Float32:
        """Add each run's rows, in order, to its state: sums ``[R, d]`` of all tokens so far.

        x ``[T, d]``, states ``[slots, 2, d]``: a sum and what rounding took from it (Neumaier
        1974), so that no cut into micro-batches changes a bit and the sum is as good as exact.
        """
        ...

    # Recurrent layers. States are float32 ``[slots, …]``, read and written where ``runs`` says.
    # Arguments called strided may be views of some columns of a wider array.

    def causal_conv(
        self,
        x: Float32,
        weight: Float32,
        bias: Float32 | None,
        tails: Float32,
        runs: Runs,
        activation: str | None = None,
    ) -> Float32:
        """Depthwise, over a run's tokens: bias + Σₖ weight[c, k] · x[t − K + 1 + k, c].

        x ``[T, C]`` (strided), weight ``[C, K]``, bias ``[C]``, tails ``[slots, K − 1, C]``: last
        inputs, oldest first; activation None or "silu". Returns ``[T, C]``.
        """
        ...

    def selective_scan(
        self,
        x: Float32,
        dt: Float32,
        dt_bias: Float32,
        a: Float32,
        b: Float32,
        c: Float32,
        d: Float32,
        states: Float32,
        runs: Runs,
        z: Float32 | None = None,
    ) -> Float32:
        """Mamba's recurrence (Gu, Dao 2023, arXiv 2312.00752, algorithm 2).

        Δ = softplus(dt + dt_bias); h = exp(Δ·a)·h + (Δ·x)·b; y = Σₙ h·c + d·x, times silu(z) where
        z is given. x, dt, z ``[T, D]``, b, c ``[T, N]`` (all strided), a ``[N, D]``, dt_bias, d
        ``[D]``, states ``[slots, N, D]``. Returns ``[T, D]``.
        """
        ...

    def mamba2_scan(
        self,
        x: Float32,
        dt: Float32,
        dt_bias: Float32,
        a: Float32,
        b: Float32,
        c: Float32,
        d: Float32,
        states: Float32,
        runs: Runs,
    ) -> Float32:
        """Mamba-2's recurrence (Dao, Gu 2024, arXiv 2405.21060, §2), one decay for a whole head.

        Δ = softplus(dt + dt_bias); h[n, p] = exp(Δ·a)·h[n, p] + b[n]·Δ·x[p]; y[p] = Σₙ c[n]·h[n, p]
        + d·x[p]. x ``[T, H·P]``, dt ``[T, H]``, b, c ``[T, G·N]`` (all strided), dt_bias, a, d
        ``[H]``, states ``[slots, H, N, P]``; head h reads group h // (H / G). Returns ``[T, H·P]``.
        """
        ...

    def delta_rule(
        self,
        q: Float32,
        k: Float32,
        v: Float32,
        beta: Float32,
        dt: Float32,
        dt_bias: Float32,
        a: Float32,
        states: Float32,
        runs: Runs,
        *,
        eps: float,
        tiled: bool = False,
    ) -> Float32:
        """The gated delta rule (Yang et al. 2024, arXiv 2412.06464, eq. 10; Kimi 2025, 2510.26692).

        S ← e^g·S, g = a·softplus(dt + dt_bias); S ← S + k ⊗ σ(beta)·(v − Sᵀk); y = Sᵀq / √N, with q
        and k divided by √(Σ x² + eps). q, k ``[T, G·N]``, v ``[T, H·P]``, beta ``[T, H]``, dt ``[T,
        H]`` or, where each key channel has its decay, ``[T, H·N]`` (all strided), dt_bias alike, a
        ``[H]``, states ``[slots, H, N, P]``; head h reads key head h // (H / G), or with ``tiled``
        h % G. Returns ``[T, H·P]``.
        """
        ...

    def wkv6(
        self,
        r: Float32,
        k: Float32,
        v: Float32,
        w: Float32,
        u: Float32,
        states: Float32,
        runs: Runs,
    ) -> Float32:
        """RWKV-6's recurrence (Peng et al. 2024, arXiv 2404.05892, §4.2).

        y[j] = Σᵢ r[i]·(s[i, j] + u[i]·k[i]·v[j]); s[i, j] = exp(−exp(w[i]))·s[i, j] + k[i]·v[j].
        r, k, v, w ``[T, H·S]`` (strided), u ``[H, S]``, states ``[slots, H, S, S]``. Returns
        ``[T, H·S]``.
        """
        ...

    def wkv7(
        self,
        r: Float32,
        w: Float32,
        k: Float32,
        v: Float32,
        a: Float32,
        heads: Wkv7Heads,
        eps: float,
        states: Float32,
        runs: Runs,
    ) -> Float32:
        """RWKV-7's recurrence (Peng et al. 2025, arXiv 2503.14456, §4), with its norm.

        a ← σ(a); d = exp(−e^−½ · σ(w)); κ = k ⊙ k_k / its length (at least 1e-12); k ← k ⊙
        (1 + (a − 1) ⊙ k_a); s[i, j] ← d[i]·s[i, j] − κ[i]·a[i]·Σₗ κ[l]·s[l, j] + k[i]·v[j]; y[j] =
        Σᵢ r[i]·s[i, j], normalised over j with ``eps``, plus (Σᵢ r[i]·k[i]·r_k[i])·v[j]. r, w, k,
        v, a ``[T, H·S]`` (strided), states ``[slots, H, S, S]``. Returns ``[T, H·S]``.
        """
        ...

    def token_shift(self, x: Float32, tails: Float32, runs: Runs) -> Float32:
        """The row of the run's token before: x ``[T, d]``, tails ``[slots, d]``; ``[T, d]``."""
        ...

    def mix(self, x: Float32, shifted: Float32, t: Float32) -> Float32:
        """x + (shifted − x) · t, t ``[d]`` or ``[T, d]``; ``[M, T, d]`` of t ``[M, 1, d]``."""
        ...

    # Caches: their memory, and moving what lies in it. A slot is page × rows of a page + row.
