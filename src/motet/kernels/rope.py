"""Rotary position embedding as data: frequencies, pairing, and tables of cosines and sines.

RoPE (Su et al. 2021, arXiv 2104.09864, eq. 15) turns the channel pair (a, b) with frequency f at
position p into (a·cos(pf) − b·sin(pf), a·sin(pf) + b·cos(pf)).
"""

import threading

import numpy as np

from motet.kernels.paged import PAGE

_GROWTH = 16
"""Blocks of PAGE positions by which a table grows."""


class Rope:
    """Rotation of the first ``rotary_dim`` channels of a head.

    ``inv_freq``: float64 ``[rotary_dim / 2]``, radians per position, every scaling (linear, YaRN,
    llama3, frequency factors) already applied. ``pairing``: "neox" pairs channel i with
    i + rotary_dim / 2, "normal" pairs 2i with 2i + 1. ``scale`` multiplies cosine and sine (YaRN's
    attention factor).
    """

    def __init__(self, inv_freq: np.ndarray, pairing: str = "neox", scale: float = 1.0) -> None:
        if pairing not in ("neox", "normal"):
            raise ValueError(f"pairing is {pairing!r}, not 'neox' or 'normal'")
        self.inv_freq = np.asarray(inv_freq, np.float64)
        self.pairing = pairing
        self.scale = scale
        self.rotary_dim = 2 * len(self.inv_freq)
        self._lock = threading.Lock()
        self._table = np.zeros((0, 2, len(self.inv_freq), PAGE), np.float32)

    def table(self, blocks: int) -> np.ndarray:
        """Cosines and sines, float32 ``[≥ blocks, 2, rotary_dim / 2, PAGE]``.

        Entry ``[b, 0, i, s]`` is scale · cos((64·b + s) · inv_freq[i]). Computed in float64, so an
        entry depends on its position alone.
        """
        table = self._table
        if len(table) >= blocks:
            return table
        with self._lock:
            old = self._table
            if len(old) < blocks:
                count = -(-max(blocks, 2 * len(old)) // _GROWTH) * _GROWTH
                self._table = np.concatenate([old, self._blocks(len(old), count)])
            return self._table

    def _blocks(self, start: int, stop: int) -> np.ndarray:
        positions = np.arange(start * PAGE, stop * PAGE, dtype=np.float64).reshape(-1, 1, PAGE)
        angles = positions * self.inv_freq[None, :, None]
        out = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return (self.scale * out).astype(np.float32)
